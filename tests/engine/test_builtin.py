"""torchvision's sets: from made files in the right layout, and by download from a server of ours."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from stillhouse.spec.datasets import DATASETS
from tests.engine.archives import idx
from worker.engine.data import store
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.images import RawDataset

COUNTS = {"train": 30, "test": 20}


def made(channels: int, side: int, classes: int) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (count, channels, side, side), dtype=np.uint8), np.arange(count) % classes)
        for split, count in COUNTS.items()
    }


def write_mnist(folder: Path, data: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> None:
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = data[split]
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[:, 0]))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))


def check(found: RawDataset, name: str, data: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> None:
    promised = DATASETS[name]
    assert found.test is not None
    for split, images in (("train", found.train), ("test", found.test)):
        assert torch.equal(images.images, torch.from_numpy(data[split][0]))
        assert images.labels.tolist() == data[split][1].tolist()
        assert tuple(images.images.shape[1:]) == promised.shape
    assert found.classes == promised.classes
    if promised.mean is not None:
        assert (found.mean, found.std) == (promised.mean, promised.std)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_the_family_of_mnist_from_a_folder(tmp_path: Path, name: str, folder: str) -> None:
    data = made(1, 28, 10)
    write_mnist(tmp_path / "given" / folder / "raw", data)
    found = BUILTIN[name](tmp_path / "given", tmp_path / "cache")
    check(found, name, data)
    store.save(tmp_path / "kept", found)
    again = store.load(tmp_path / "kept")
    check(again, name, data)
    assert again.sha256 == found.fingerprint == again.fingerprint


@pytest.mark.parametrize(
    ("name", "folder", "kind", "key", "classes"),
    [
        ("cifar10", "cifar-10-batches-py", datasets.CIFAR10, "labels", 10),
        ("cifar100", "cifar-100-python", datasets.CIFAR100, "fine_labels", 100),
    ],
)
def test_cifar_from_a_folder_with_checked_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str, kind: Any, key: str, classes: int
) -> None:
    data = made(3, 32, classes)
    given = tmp_path / "given" / folder
    given.mkdir(parents=True)
    digests: dict[str, list[list[str]]] = {}
    for split, attribute in (("train", "train_list"), ("test", "test_list")):
        images, labels = data[split]
        file = getattr(kind, attribute)[0][0]
        batch = {"data": images.reshape(len(images), -1), key: labels.tolist()}
        (given / file).write_bytes(pickle.dumps(batch))
        digests[attribute] = [[file, md5(given / file)]]
        monkeypatch.setattr(kind, attribute, digests[attribute])
    (given / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: list(DATASETS[name].classes)}))
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(given / kind.meta["filename"])})
    check(BUILTIN[name](tmp_path / "given", tmp_path / "cache"), name, data)
    (given / digests["test_list"][0][0]).write_bytes(b"damaged")
    monkeypatch.setattr(kind, "url", "http://127.0.0.1:9/nothing")
    with pytest.raises((OSError, RuntimeError)):
        BUILTIN[name](tmp_path / "given", tmp_path / "other-cache")


def test_svhn_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(3, 32, 10)
    splits = {}
    for split, (images, labels) in data.items():
        file = tmp_path / "given" / f"{split}_32x32.mat"
        file.parent.mkdir(exist_ok=True)
        savemat(file, {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        splits[split] = ["http://127.0.0.1:9/nothing", file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    check(BUILTIN["svhn"](tmp_path / "given", tmp_path / "cache"), "svhn", data)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves ``tmp_path/served`` on 127.0.0.1."""
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/"
        serving.shutdown()
        thread.join()


def test_mnist_is_downloaded_and_its_digests_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    data = made(1, 28, 10)
    write_mnist(tmp_path / "files", data)
    resources = []
    for file in (tmp_path / "files").iterdir():
        packed = tmp_path / "served" / f"{file.name}.gz"
        packed.write_bytes(gzip.compress(file.read_bytes()))
        resources.append((packed.name, md5(packed)))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check(BUILTIN["mnist"](None, tmp_path / "cache"), "mnist", data)
    (tmp_path / "served" / resources[0][0]).write_bytes(b"something else")
    with pytest.raises((OSError, RuntimeError)):
        BUILTIN["mnist"](None, tmp_path / "other-cache")
