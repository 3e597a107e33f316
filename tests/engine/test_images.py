"""Sets that are mapped from files are the same sets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.engine.archives import folder, ingested, zipped
from tests.engine.conftest import LAYERS, network
from worker.engine.data import images, mapping, store
from worker.engine.data.images import ImageSet, RawDataset
from worker.engine.data.split import split_dataset
from worker.engine.evaluate import evaluate


def noise(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 10, 14), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 4)


def maps() -> str:
    return Path("/proc/self/maps").read_text()


def test_a_large_split_is_mapped_and_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RawDataset("n", tuple("abcd"), (0.5,) * 3, (0.5,) * 3, noise(200), None)
    small = split_dataset(whole.resized(8), validation=0.2, seed=3)
    before = maps().count("(deleted)")
    monkeypatch.setattr(images, "MAPPED_FROM", 1)
    monkeypatch.setattr(images, "_CHUNK", 5000)
    mapped = split_dataset(whole.resized(8), validation=0.2, seed=3)
    assert maps().count("(deleted)") > before  # files without a name back them
    assert mapped.fingerprint == small.fingerprint
    assert torch.equal(mapped.train.images, small.train.images)
    samples = torch.tensor([5, 0, 5])
    assert torch.equal(mapped.train.batch(samples), small.train.images[samples])


def test_a_large_stored_set_is_not_read_ahead_and_announced_reads_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-ahead around each image of a shuffled epoch drops what the others need, where memory is short."""
    ingested(zipped(tmp_path / "x.zip", folder(train=3)))
    folder_, file = tmp_path / "x.zip.stored", "data.safetensors"
    small = store.load(folder_).train
    samples = torch.tensor([4, 0, 5])
    expected, whole = small.batch(samples).clone(), small.images.clone()
    assert not advised(f"{folder_}/{file}")
    monkeypatch.setattr(mapping, "MAPPED_FROM", 1)
    large = store.load(folder_).train
    assert advised(f"{folder_}/{file}")
    assert torch.equal(large.batch(samples), expected)
    pieces = list(large.in_order(4))
    assert [len(piece) for piece in pieces] == [4, 2]
    assert torch.equal(torch.cat(pieces), whole)


def advised(file: str) -> bool:
    """Whether a mapping of ``file`` has the kernel's flag for reads at random."""
    regions = Path("/proc/self/smaps").read_text().split("VmFlags:")
    return any(file in region and " rr" in flags.splitlines()[0] for region, flags in pairwise(regions))


def test_what_is_stored_is_mapped_not_read(tmp_path: Path) -> None:
    ingested(zipped(tmp_path / "x.zip", folder(train=3)))
    loaded = store.load(tmp_path / "x.zip.stored")
    assert str(tmp_path / "x.zip.stored" / "data.safetensors") in maps()
    assert len(loaded.train) == 6


def private_bytes() -> int:
    """Memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def test_an_evaluation_takes_no_memory_by_the_number_of_images() -> None:
    """Small results that were kept among large tensors once split the heap: 290 MB for 6,000 images more."""
    layers = [{"name": "maxpool", "kernel": 4, "stride": 4, "padding": 0}, *LAYERS[-2:]]
    whole = network(layers=layers, shape=(3, 64, 64))
    image, used = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), []
    for count in (1000, 1000, 7000):
        evaluate(whole, ImageSet(image.expand(count, -1, -1, -1), torch.zeros(count, dtype=torch.int64)))
        used.append(private_bytes())
    assert used[2] - used[1] < 64 * 2**20


def test_resizing_cuts_the_centre_out() -> None:
    wide = torch.zeros(2, 1, 10, 30, dtype=torch.uint8)
    wide[:, :, :, 10:20] = 200
    assert ImageSet(wide, torch.zeros(2, dtype=torch.int64)).resized(10).images.eq(200).all()
    same = ImageSet(wide[..., :10], torch.zeros(2, dtype=torch.int64))
    assert same.resized(10) is same
