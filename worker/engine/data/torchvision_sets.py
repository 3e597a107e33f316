"""torchvision's classification sets: from a folder that already holds them, or by download.

What is given is copied first, so that a read-only folder will do; torchvision then checks digests and unpacks, or
downloads what is missing.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from worker.engine.data.images import ImageSet, RawDataset
from worker.engine.data.mapping import mapped
from worker.engine.data.store import Split

_DIGITS = tuple("0123456789")
_FLAG: Mapping[Split, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: Mapping[Split, Mapping[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Mapping[Split, Mapping[str, Any]] = {**_TWO, "validation": {"split": "val"}}
_WHOLE: Mapping[Split, Mapping[str, Any]] = {"train": {}}
_PIECE = 64
LARGE = 224
"""Side at which photographs of varying sizes are kept."""


@dataclass(frozen=True)
class TorchvisionSet:
    """One of them."""

    name: str
    given: tuple[str, ...]
    """Files and folders that may lie in the folder of data sets, as torchvision lays them out."""
    kind: Callable[..., Any]
    """torchvision's class."""
    splits: Mapping[Split, Mapping[str, Any]]
    """What torchvision calls each split that is published."""
    classes: tuple[str, ...] = ()
    """Empty where the files, or torchvision, name them."""
    mean: tuple[float, ...] | None = None
    """As published; else it is computed from the training split."""
    std: tuple[float, ...] | None = None
    side: int | None = None
    """Of pictures in files: the short side becomes this and the centre is cut out."""
    first: int = 0
    """The label of the first class."""

    def load(self, datasets_dir: Path | None, cache: Path) -> RawDataset:
        """Every split."""
        for name in self.given if datasets_dir is not None else ():
            assert datasets_dir is not None
            source, target = datasets_dir / name, cache / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, target)
        cache.mkdir(parents=True, exist_ok=True)
        opened = {split: self.kind(str(cache), download=True, **how) for split, how in self.splits.items()}
        named: Sequence[Any] = next(
            (getattr(opened["train"], name) for name in ("classes", "categories") if hasattr(opened["train"], name)), ()
        )
        classes = self.classes or tuple(name if isinstance(name, str) else name[0] for name in named)
        images = {split: self._images(found, len(classes)) for split, found in opened.items()}
        train = images["train"]
        return RawDataset(
            self.name,
            classes,
            self.mean or (),
            self.std or (),
            train,
            images.get("test"),
            images.get("validation"),
        )

    def _images(self, split: Any, classes: int) -> ImageSet:
        """Raises ValueError for labels that are none of the classes."""
        found = _arrays(split) if self.side is None else _pictures(split, self.side)
        labels = found.labels - self.first
        if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise ValueError(f"the files of {self.name} hold labels that are none of its {classes} classes")
        return ImageSet(found.images, labels)


def _arrays(split: Any) -> ImageSet:
    """[N, H, W] (MNIST), [N, H, W, C] (CIFAR) or [N, C, H, W] (SVHN) to uint8 [N, C, H, W]; of several columns of
    labels (QMNIST) the first is the class.
    """
    images = torch.as_tensor(np.asarray(split.data))
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[3] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(np.asarray(split.targets if hasattr(split, "targets") else split.labels)).long()
    return ImageSet(images.contiguous(), labels if labels.ndim == 1 else labels[:, 0].contiguous())


def _pictures(split: Any, side: int) -> ImageSet:
    """Images of files, in colour; some at a time in memory."""
    labels: list[int] = []

    def pieces() -> Iterator[Tensor]:
        for start in range(0, len(split), _PIECE):
            piece = []
            for index in range(start, min(start + _PIECE, len(split))):
                picture, label = split[index]
                labels.append(int(label))
                piece.append(_cut(picture, side))
            yield torch.cat(piece)

    images = mapped((len(split), 3, side, side), pieces())
    return ImageSet(images, torch.tensor(labels))


def _cut(picture: Any, side: int) -> Tensor:
    image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).unsqueeze(0)
    return ImageSet(image, torch.zeros(1, dtype=torch.int64)).resized(side).images


def _scenes(root: str, *, download: bool) -> Any:
    """In the order of names: torchvision's is that of the file system."""
    found = datasets.SUN397(root, download=download)
    pairs = sorted(zip(found._image_files, found._labels, strict=True))  # noqa: SLF001  # this and below: no public name
    found._image_files, found._labels = zip(*pairs, strict=True)  # noqa: SLF001
    return found


class _Patches:
    """PatchCamelyon from its archives as they are published; with its files open, which torchvision opens anew for
    each image.
    """

    def __init__(self, root: str, *, split: str, **_download: bool) -> None:
        files = datasets.PCAM._FILES[split]  # noqa: SLF001  # as above
        for name, _, digest in files.values():
            packed = Path(root) / "pcam" / f"{name}.gz"
            if not check_integrity(packed, digest):
                what = "is damaged" if packed.exists() else "is missing, and is on a drive that is not asked for it"
                raise ValueError(f"pcam/{packed.name} {what}")
            with gzip.open(packed) as archive, packed.with_suffix("").open("wb") as file:
                shutil.copyfileobj(archive, file)
        images, labels = (Path(root) / "pcam" / files[part][0] for part in ("images", "targets"))
        self._images, self._labels = h5py.File(images)["x"], h5py.File(labels)["y"]

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self._images[index]), int(self._labels[index].item())

    def __len__(self) -> int:
        return len(self._labels)


_MNISTS = (
    TorchvisionSet("mnist", ("MNIST/raw",), datasets.MNIST, _FLAG, _DIGITS, (0.5,), (0.5,)),
    TorchvisionSet("fashion-mnist", ("FashionMNIST/raw",), datasets.FashionMNIST, _FLAG),
    TorchvisionSet("kmnist", ("KMNIST/raw",), datasets.KMNIST, _FLAG),
    TorchvisionSet(
        "qmnist",
        ("QMNIST/raw",),
        datasets.QMNIST,
        {"train": {"what": "train"}, "test": {"what": "test"}},
        _DIGITS,
    ),
    *(
        TorchvisionSet(
            f"emnist-{split}",
            ("EMNIST/raw",),
            datasets.EMNIST,
            {"train": {"split": split, "train": True}, "test": {"split": split, "train": False}},
            tuple(name for name in datasets.EMNIST.classes_split_dict[split] if name != "N/A"),
            first=int(split == "letters"),  # counted from 1
        )
        for split in datasets.EMNIST.splits
    ),
)
_ARRAYS = (
    TorchvisionSet("cifar10", ("cifar-10-python.tar.gz", "cifar-10-batches-py"), datasets.CIFAR10, _FLAG),
    TorchvisionSet(
        "cifar100",
        ("cifar-100-python.tar.gz", "cifar-100-python"),
        datasets.CIFAR100,
        _FLAG,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    TorchvisionSet("svhn", ("train_32x32.mat", "test_32x32.mat"), datasets.SVHN, _TWO, _DIGITS),
    TorchvisionSet("usps", ("usps.bz2", "usps.t.bz2"), datasets.USPS, _FLAG, _DIGITS),
    TorchvisionSet("semeion", ("semeion.data",), datasets.SEMEION, _WHOLE, _DIGITS),
    TorchvisionSet("stl10", ("stl10_binary.tar.gz", "stl10_binary"), datasets.STL10, _TWO),
)
_PICTURES = (
    TorchvisionSet("eurosat", ("eurosat",), datasets.EuroSAT, _WHOLE, side=64),
    TorchvisionSet("gtsrb", ("gtsrb",), datasets.GTSRB, _TWO, tuple(map(str, range(43))), side=48),
    TorchvisionSet(
        "imagenette",
        ("imagenette2-320.tgz", "imagenette2-320"),
        datasets.Imagenette,
        {"train": {"split": "train", "size": "320px"}, "test": {"split": "val", "size": "320px"}},
        side=LARGE,
    ),
    TorchvisionSet(
        "oxford-iiit-pet",
        ("oxford-iiit-pet",),
        datasets.OxfordIIITPet,
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        side=LARGE,
    ),
    TorchvisionSet("flowers102", ("flowers-102",), datasets.Flowers102, _THREE, side=LARGE),
    TorchvisionSet("dtd", ("dtd",), datasets.DTD, _THREE, side=LARGE),
    TorchvisionSet("food101", ("food-101.tar.gz", "food-101"), datasets.Food101, _TWO, side=LARGE),
    TorchvisionSet(
        "country211",
        ("country211.tgz", "country211"),
        datasets.Country211,
        {**_TWO, "validation": {"split": "valid"}},
        side=LARGE,
    ),
    TorchvisionSet(
        "fgvc-aircraft",
        ("fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b"),
        datasets.FGVCAircraft,
        _THREE,
        side=LARGE,
    ),
    TorchvisionSet("caltech101", ("caltech101",), datasets.Caltech101, _WHOLE, side=LARGE),
    TorchvisionSet("sun397", ("SUN397.tar.gz", "SUN397"), _scenes, _WHOLE, side=LARGE),
    TorchvisionSet("pcam", ("pcam",), _Patches, _THREE, ("normal", "tumor"), side=96),
    TorchvisionSet("rendered-sst2", ("rendered-sst2.tgz", "rendered-sst2"), datasets.RenderedSST2, _THREE, side=LARGE),
)
SETS = {known.name: known for known in (*_MNISTS, *_ARRAYS, *_PICTURES)}
