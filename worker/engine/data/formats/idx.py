"""IDX, the format of MNIST: ``NAME-images-idx3-ubyte`` beside ``NAME-labels-idx1-ubyte``, each perhaps gzipped."""

from __future__ import annotations

import re
import struct

import numpy as np
import numpy.typing as npt

from worker.engine.data.files import Files, Member, shown
from worker.engine.data.found import SPLITS, Found, checked_pixels, numbered
from worker.engine.errors import UnusableUpload

_NAME = re.compile(r"(?:.*-)?(?P<split>[A-Za-z0-9]+)-(?P<what>images|labels)[-.]idx[13]-ubyte", re.IGNORECASE)
_UNSIGNED_BYTE = 0x08


def matches(files: Files) -> bool:
    """Whether a pair is there."""
    return len(_pairs(files)) > 0


def read(files: Files) -> Found:
    """``train`` and ``t10k`` or ``test``; classes are the labels' numbers."""
    found = Found((), files)
    for split_name, pair in _pairs(files).items():
        if split_name not in SPLITS or set(pair) != {"images", "labels"}:
            raise UnusableUpload(
                f"the IDX files of {shown(split_name)!r} are no pair of images and labels of a known split.",
                remedy="Name them train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k- or test- for the test.",
            )
        images, labels = (_array(files, pair[what]) for what in ("images", "labels"))
        found.pixels[SPLITS[split_name]] = checked_pixels(pair["images"].name, images, labels)
    every = np.concatenate([pixels.labels for pixels in found.pixels.values()])
    found.classes = numbered(every, None)
    return found


def _pairs(files: Files) -> dict[str, dict[str, Member]]:
    pairs: dict[str, dict[str, Member]] = {}
    for member in files.members:
        if match := _NAME.fullmatch(member.parts[-1]):
            pairs.setdefault(match["split"].lower(), {})[match["what"].lower()] = member
    return pairs


def _array(files: Files, member: Member) -> npt.NDArray[np.uint8]:
    """Mapped from the file, not read. Raises UnusableUpload when the header does not fit the bytes."""
    with files.reading() as reader:
        start = reader.read(member, limit=32)
    if len(start) < 8 or start[:2] != b"\x00\x00" or start[2] != _UNSIGNED_BYTE or start[3] not in (1, 3):
        raise UnusableUpload(f"{shown(member.name)} is no IDX file of bytes.", remedy="Store it as MNIST's files are.")
    axes = start[3]
    if len(start) < 4 + 4 * axes:
        raise UnusableUpload(f"{shown(member.name)} is cut off in its header.", remedy="Upload the whole file.")
    shape = struct.unpack(f">{axes}I", start[4 : 4 + 4 * axes])
    data = 4 + 4 * axes
    if data + int(np.prod(shape, dtype=object)) != member.size or 0 in shape:
        raise UnusableUpload(
            f"{shown(member.name)} says {'x'.join(map(str, shape))}, and holds {member.size - data:,} bytes.",
            remedy="Upload the whole file.",
        )
    return np.memmap(files.path, dtype=np.uint8, mode="r", offset=member.offset + data, shape=shape)
