"""torchvision's other sets, made small in their own layouts: letters, digits of 16x16, photographs in folders."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from stillhouse.spec.datasets import DATASETS
from tests.engine.archives import idx
from worker.engine.data import store
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.images import ImageSet

Patch = pytest.MonkeyPatch
Shades = dict[str, list[tuple[int, int]]]
"""By split (label, shade) of each picture."""


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def loaded(tmp_path: Path, name: str) -> dict[str, ImageSet | None]:
    """The splits by name, once they are stored; class names and shape are as the catalog says."""
    store.save(tmp_path / "kept", BUILTIN[name](tmp_path / "given", tmp_path / "cache"))
    found, promised = store.load(tmp_path / "kept"), DATASETS[name]
    assert (found.classes, tuple(found.train.images.shape[1:])) == (promised.classes, promised.shape)
    pixels = found.train.images.double() / 255
    if promised.mean is None:
        assert found.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-5)
        assert found.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-5)
    return {"train": found.train, "validation": found.validation, "test": found.test}


@pytest.mark.parametrize(
    ("name", "first"), [("emnist-letters", 1), ("emnist-balanced", 0), ("emnist-byclass", 0), ("emnist-digits", 0)]
)
def test_emnist_by_its_splits(tmp_path: Path, name: str, first: int) -> None:
    """The labels of the letters count from 1; no class is left without images for that."""
    folder, count = tmp_path / "given" / "EMNIST" / "raw", len(DATASETS[name].classes)
    folder.mkdir(parents=True)
    images, labels = noise(count, 28, 28), np.arange(count)
    for split in ("train", "test"):
        (folder / f"{name}-{split}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-{split}-labels-idx1-ubyte").write_bytes(idx(labels + first))
    for found in (splits := loaded(tmp_path, name)).values():
        assert found is None or torch.equal(found.images[:, 0], torch.from_numpy(images))
    assert splits["train"] is not None
    assert splits["train"].labels.tolist() == labels.tolist()
    (folder / f"{name}-test-labels-idx1-ubyte").write_bytes(idx(labels + first + 1))
    with pytest.raises(ValueError, match=f"labels that are none of its {count} classes"):
        BUILTIN[name](tmp_path / "given", tmp_path / "other")


def test_qmnist_has_its_class_among_other_labels(tmp_path: Path) -> None:
    folder = tmp_path / "given" / "QMNIST" / "raw"
    folder.mkdir(parents=True)
    images, labels = noise(20, 28, 28), np.arange(20) % 10
    more = np.concatenate([labels[:, None], np.arange(140).reshape(20, 7)], axis=1).astype(">i4")
    for split in ("train", "test"):
        (folder / f"qmnist-{split}-images-idx3-ubyte").write_bytes(idx(images))
        head = bytes([0, 0, 12, 2]) + struct.pack(">2I", *more.shape)
        (folder / f"qmnist-{split}-labels-idx2-int").write_bytes(head + more.tobytes())
    for found in (splits := loaded(tmp_path, "qmnist")).values():
        assert found is None or torch.equal(found.images[:, 0], torch.from_numpy(images))
        assert found is None or found.labels.tolist() == labels.tolist()
    assert splits["validation"] is None


def test_usps_from_its_packed_lines(tmp_path: Path) -> None:
    images = noise(12, 16, 16)
    (tmp_path / "given").mkdir()
    lines = [
        f"{index % 10 + 1} " + " ".join(f"{place + 1}:{value / 127.5 - 1:.6f}" for place, value in enumerate(image))
        for index, image in enumerate(images.reshape(12, -1))
    ]
    for file in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / "given" / file).write_bytes(bz2.compress("\n".join(lines).encode()))
    found = loaded(tmp_path, "usps")["test"]
    assert found is not None
    assert found.labels.tolist() == [index % 10 for index in range(12)]
    assert (found.images[:, 0].int() - torch.from_numpy(images).int()).abs().max() <= 1


def test_semeion_is_one_split(tmp_path: Path, monkeypatch: Patch) -> None:
    bits = noise(10, 256) > 127
    (tmp_path / "given").mkdir()
    np.savetxt(tmp_path / "given" / "semeion.data", np.concatenate([bits, np.eye(10)], axis=1), fmt="%.4f")
    monkeypatch.setattr(datasets.SEMEION, "md5_checksum", md5(tmp_path / "given" / "semeion.data"))
    splits = loaded(tmp_path, "semeion")
    assert splits["test"] is splits["validation"] is None
    assert splits["train"] is not None
    assert torch.equal(splits["train"].images.flatten(1), torch.from_numpy(bits.astype(np.uint8) * 255))


def test_stl10_has_its_labelled_images_alone(tmp_path: Path, monkeypatch: Patch) -> None:
    folder = tmp_path / "given" / "stl10_binary"
    folder.mkdir(parents=True)
    images = noise(10, 3, 96, 96)
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(range(1, 11)))
    (folder / "class_names.txt").write_text("\n".join(DATASETS["stl10"].classes))
    (folder / "unlabeled_X.bin").write_bytes(b"")
    for attribute in ("train_list", "test_list"):
        files = [[file, md5(folder / file)] for file, _ in getattr(datasets.STL10, attribute)]
        monkeypatch.setattr(datasets.STL10, attribute, files)
    found = loaded(tmp_path, "stl10")["test"]
    assert found is not None
    assert torch.equal(found.images, torch.from_numpy(images))
    (folder / "test_y.bin").write_bytes(bytes(10))
    monkeypatch.setattr(datasets.STL10, "url", "http://127.0.0.1:9/nothing")
    with pytest.raises((OSError, RuntimeError)):
        BUILTIN["stl10"](tmp_path / "given", tmp_path / "other")


def colour(shade: int) -> tuple[int, int, int]:
    return shade, 255 - shade, shade // 4


def picture(path: Path, shade: int) -> None:
    """Wider than high, and white but for its middle: only that may be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 60, 3), 255, dtype=np.uint8)
    pixels[:, 16:44] = colour(shade)
    Image.fromarray(pixels).save(path, quality=95)


def eurosat(given: Path, shades: Shades, _patch: Patch) -> None:
    names = DATASETS["eurosat"].classes
    for index, (label, shade) in enumerate(shades["train"]):
        picture(given / "eurosat" / "2750" / names[label] / f"{index:05d}.jpg", shade)


def gtsrb(given: Path, shades: Shades, _patch: Patch) -> None:
    folder, lines = given / "gtsrb", ["Filename;Width;Height;ClassId"]
    for index, (label, shade) in enumerate(shades["train"]):
        picture(folder / "GTSRB" / "Training" / f"{label:05d}" / f"{index:05d}.ppm", shade)
    for index, (label, shade) in enumerate(shades["test"]):
        picture(folder / "GTSRB" / "Final_Test" / "Images" / f"{index:05d}.ppm", shade)
        lines.append(f"{index:05d}.ppm;60;20;{label}")
    (folder / "GT-final_test.csv").write_text("\n".join(lines) + "\n")


def imagenette(given: Path, shades: Shades, _patch: Patch) -> None:
    for split, folder in (("train", "train"), ("test", "val")):
        for index, (label, shade) in enumerate(shades[split]):
            wnid = sorted(datasets.Imagenette._WNID_TO_CLASS)[label]
            picture(given / "imagenette2-320" / folder / wnid / f"{index:05d}.JPEG", shade)


def pets(given: Path, shades: Shades, _patch: Patch) -> None:
    folder, names = given / "oxford-iiit-pet", DATASETS["oxford-iiit-pet"].classes
    for split, file in (("train", "trainval"), ("test", "test")):
        lines = []
        for index, (label, shade) in enumerate(shades[split]):
            name = f"{names[label].replace(' ', '_')}_{split}{index}"
            picture(folder / "images" / f"{name}.jpg", shade)
            lines.append(f"{name} {label + 1} 1 1")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{file}.txt").write_text("\n".join(lines) + "\n")


def flowers(given: Path, shades: Shades, patch: Patch) -> None:
    folder, labels, places = given / "flowers-102", [], {"train": [], "validation": [], "test": []}  # type: ignore[var-annotated]
    for split, listed in shades.items():
        for label, shade in listed:
            labels.append(label + 1)
            places[split].append(len(labels))
            picture(folder / "jpg" / f"image_{len(labels):05d}.jpg", shade)
    savemat(folder / "imagelabels.mat", {"labels": [labels]})
    names = {"trnid": "train", "valid": "validation", "tstid": "test"}
    savemat(folder / "setid.mat", {name: [places[split]] for name, split in names.items()})
    files = {"label": "imagelabels.mat", "setid": "setid.mat"}
    known = {name: (file, md5(folder / file)) for name, file in files.items()}
    patch.setattr(datasets.Flowers102, "_file_dict", known)


def textures(given: Path, shades: Shades, _patch: Patch) -> None:
    folder, names = given / "dtd" / "dtd", DATASETS["dtd"].classes
    (folder / "labels").mkdir(parents=True)
    for split, file in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        lines = []
        for index, (label, shade) in enumerate(shades[split]):
            lines.append(f"{names[label]}/{split}_{index}.jpg")
            picture(folder / "images" / lines[-1], shade)
        (folder / "labels" / f"{file}.txt").write_text("\n".join(lines) + "\n")


def food(given: Path, shades: Shades, _patch: Patch) -> None:
    folder, names = given / "food-101", DATASETS["food101"].classes
    (folder / "meta").mkdir(parents=True)
    for split in ("train", "test"):
        listed: dict[str, list[str]] = {}
        for index, (label, shade) in enumerate(shades[split]):
            place = f"{names[label]}/{split}{index}"
            listed.setdefault(names[label], []).append(place)
            picture(folder / "images" / f"{place}.jpg", shade)
        (folder / "meta" / f"{split}.json").write_text(json.dumps(listed))


def sentences(given: Path, shades: Shades, _patch: Patch) -> None:
    for split, folder in (("train", "train"), ("validation", "valid"), ("test", "test")):
        for index, (label, shade) in enumerate(shades[split]):
            name = DATASETS["rendered-sst2"].classes[label]
            picture(given / "rendered-sst2" / folder / name / f"{index:05d}.png", shade)


def countries(given: Path, shades: Shades, _patch: Patch) -> None:
    names = DATASETS["country211"].classes
    for split, folder in (("train", "train"), ("validation", "valid"), ("test", "test")):
        for index, (label, shade) in enumerate(shades[split]):
            picture(given / "country211" / folder / names[label] / f"{index}.jpg", shade)


def aircraft(given: Path, shades: Shades, _patch: Patch) -> None:
    folder, names = given / "fgvc-aircraft-2013b" / "data", DATASETS["fgvc-aircraft"].classes
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        lines = []
        for index, (label, shade) in enumerate(shades[split]):
            picture(folder / "images" / f"{file}{index:07d}.jpg", shade)
            lines.append(f"{file}{index:07d} {names[label]}")
        (folder / f"images_variant_{file}.txt").write_text("\n".join(lines) + "\n")
    (folder / "variants.txt").write_text("\n".join(names) + "\n")


def caltech(given: Path, shades: Shades, _patch: Patch) -> None:
    folder, names = given / "caltech101" / "101_ObjectCategories", DATASETS["caltech101"].classes
    picture(folder / "BACKGROUND_Google" / "image_0001.jpg", 7)
    for label, shade in shades["train"]:
        picture(folder / names[label] / "image_0001.jpg", shade)


def scenes(given: Path, shades: Shades, patch: Patch) -> None:
    """A file system may list them in any order."""
    listed = Path.rglob
    patch.setattr(Path, "rglob", lambda self, pattern: sorted(listed(self, pattern), reverse=True))
    folder, names = given / "SUN397", DATASETS["sun397"].classes
    for index, (label, shade) in enumerate(shades["train"]):
        picture(folder / names[label][0] / names[label] / f"sun_{index:05d}.jpg", shade)
    (folder / "ClassName.txt").write_text("".join(f"/{name[0]}/{name}\n" for name in names))


LAYOUTS: dict[str, Callable[[Path, Shades, Patch], None]] = {
    "eurosat": eurosat,
    "gtsrb": gtsrb,
    "imagenette": imagenette,
    "oxford-iiit-pet": pets,
    "flowers102": flowers,
    "dtd": textures,
    "food101": food,
    "rendered-sst2": sentences,
    "country211": countries,
    "fgvc-aircraft": aircraft,
    "caltech101": caltech,
    "sun397": scenes,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_photographs_keep_their_middle_their_split_and_their_label(
    tmp_path: Path, monkeypatch: Patch, name: str
) -> None:
    """Each split's pictures have shades of their own, by their label."""
    classes = range(0, len(DATASETS[name].classes), 7 if name == "sun397" else 1)
    offsets = {"train": 0, "validation": 7, "test": 13}
    shades = {split: [(label, (label * 37 + more) % 200 + 20) for label in classes] for split, more in offsets.items()}
    LAYOUTS[name](tmp_path / "given", shades, monkeypatch)
    for split, found in loaded(tmp_path, name).items():
        assert (found is None) == (getattr(DATASETS[name], split) is None)
        if found is None:
            continue
        expected = dict(shades[split])
        assert sorted(found.labels.tolist()) == list(classes)
        assert name != "sun397" or found.labels.tolist() == list(classes)
        for label, image in zip(found.labels.tolist(), found.images, strict=True):
            middle = image[:, 4:-4, 4:-4].float().mean(dim=(1, 2))
            assert (middle - torch.tensor(colour(expected[label]))).abs().max() < 3
            assert image.float().mean(dim=(1, 2))[2] < 80  # nothing of the white sides


PATCHES = {"train": 7, "validation": 3, "test": 4}


def patches(given: Path, patch: Patch) -> dict[str, Any]:
    """As they are published: HDF5, packed by gzip."""
    (given / "pcam").mkdir(parents=True)
    made, files = {}, {}
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        count = PATCHES[split]
        made[split] = (noise(count, 96, 96, 3), np.arange(count) % 2)
        known = datasets.PCAM._FILES[name]
        files[name] = {}
        for part, key, values in (("images", "x", made[split][0]), ("targets", "y", made[split][1])):
            target = given / "pcam" / f"{known[part][0]}.gz"
            out = io.BytesIO()
            with h5py.File(out, "w") as file:
                file[key] = values if part == "images" else values.reshape(-1, 1, 1, 1).astype(np.uint8)
            target.write_bytes(gzip.compress(out.getvalue()))
            files[name][part] = (known[part][0], known[part][1], md5(target))
    patch.setattr(datasets.PCAM, "_FILES", files)
    return made


def test_patches_from_their_archives_whose_digests_are_checked(tmp_path: Path, monkeypatch: Patch) -> None:
    made = patches(tmp_path / "given", monkeypatch)
    for split, found in loaded(tmp_path, "pcam").items():
        assert found is not None
        images, labels = made[split]
        assert torch.equal(found.images, torch.from_numpy(images).permute(0, 3, 1, 2))
        assert found.labels.tolist() == labels.tolist()
    file = tmp_path / "given" / "pcam" / "camelyonpatch_level_2_split_valid_y.h5.gz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"split_valid_y\.h5\.gz is damaged"):
        BUILTIN["pcam"](tmp_path / "given", tmp_path / "other")
    file.unlink()
    with pytest.raises(ValueError, match=r"split_valid_y\.h5\.gz is missing"):
        BUILTIN["pcam"](tmp_path / "given", tmp_path / "another")
