"""npz: arrays of images and labels under the names that Keras, MedMNIST or nobody in particular gave them."""

from __future__ import annotations

import numpy as np

from worker.engine.data.files import Files, Member, shown
from worker.engine.data.found import Found, Split, checked_pixels, numbered
from worker.engine.data.npy import mapped_array
from worker.engine.errors import UnusableUpload

_SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_IMAGES, _LABELS = ("images", "x", "data"), ("labels", "y", "targets")
_CLASSES = ("classes", "class_names", "label_names")


def matches(files: Files) -> bool:
    """Whether all there is are arrays."""
    return all(member.suffix == "npy" for member in files.members)


def read(files: Files) -> Found:
    """``train_images`` and ``train_labels``, ``x_train`` and ``y_train``, or plain ``images`` and ``labels``."""
    arrays = {member.parts[-1].removesuffix(".npy").lower(): member for member in files.members}
    found = Found((), files)
    for split, words in _SPLITS.items():
        images, labels = (_find(arrays, what, words, plain=split == "train") for what in (_IMAGES, _LABELS))
        if images is not None and labels is not None:
            found.pixels[split] = checked_pixels(images.name, mapped_array(files, images), mapped_array(files, labels))
    if "train" not in found.pixels:
        raise UnusableUpload(
            f"its arrays are called {', '.join(shown(name) for name in sorted(arrays)[:20])}.",
            remedy="Call them images and labels, or train_images, train_labels, test_images, test_labels.",
        )
    every = np.concatenate([pixels.labels for pixels in found.pixels.values()])
    found.classes = numbered(every, _names(files, arrays))
    return found


def _find(arrays: dict[str, Member], what: tuple[str, ...], split: tuple[str, ...], *, plain: bool) -> Member | None:
    names = [name for word in what for part in split for name in (f"{part}_{word}", f"{word}_{part}")]
    return next((arrays[name] for name in (*names, *(what if plain else ())) if name in arrays), None)


def _names(files: Files, arrays: dict[str, Member]) -> tuple[str, ...] | None:
    member = next((arrays[name] for name in _CLASSES if name in arrays), None)
    if member is None:
        return None
    named = mapped_array(files, member)
    if named.ndim != 1 or named.dtype.kind != "U" or len(named) > 100_000:
        raise UnusableUpload(f"{shown(member.name)} is no list of names.", remedy="Store the class names as text.")
    return tuple(str(name)[:128] for name in named)
