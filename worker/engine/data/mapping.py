"""Images in files that are mapped into memory: the kernel keeps what fits, and can always take it back.

Training reads at random. Left to itself the kernel reads ahead around each image and drops what others need, so it is
told not to; instead it is told of every read before it comes, and fetches the images of a batch side by side. Under a
cgroup's limit of an eighth of the set: 96 images of 12 kB a second with read-ahead, 6,300 without, 13,100 so.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterable

import torch
from torch import Tensor

MAPPED_FROM = 64 * 2**20
"""Bytes of images from which on a set is read from its file; smaller ones are simply in memory."""
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def mapped(shape: tuple[int, ...], pieces: Iterable[Tensor]) -> Tensor:
    """The pieces as one uint8 tensor, in a file without a name in the folder for temporary files.

    Each piece is synced: under a cgroup's limit the kernel can drop pages that lie on the disk, and ends a process
    whose pages do not.
    """
    folder = os.environ.get("TMPDIR")  # as it is, perhaps ".": the folders above it may be closed to this process
    with tempfile.TemporaryFile(dir=folder) as file:
        for piece in pieces:
            file.write(piece.contiguous().numpy().data)
            file.flush()
            os.fdatasync(file.fileno())
        name = f"/dev/fd/{file.fileno()}"
        tensor = torch.from_file(name, shared=True, size=torch.Size(shape).numel(), dtype=torch.uint8)
    return read_at_random(tensor.view(shape))


def read_at_random(tensor: Tensor) -> Tensor:
    """The same tensor, its pages no longer read ahead; one that is small is left as it is."""
    if _is_large(tensor):
        _advise(tensor, 0, tensor.nbytes, mmap.MADV_RANDOM)
    return tensor


def announce(tensor: Tensor, indices: Tensor) -> None:
    """Have the kernel fetch the samples of ``indices`` (int64 [M], on the host), before they are read one by one."""
    if not _is_large(tensor):
        return
    size = tensor[:1].nbytes
    for index in indices.tolist():
        _advise(tensor, index * size, size, mmap.MADV_WILLNEED)


def announce_stretch(tensor: Tensor, start: int, stop: int) -> None:
    """The same of the samples from ``start`` to ``stop``, or to the last."""
    if _is_large(tensor):
        size = tensor[:1].nbytes
        _advise(tensor, start * size, (min(stop, len(tensor)) - start) * size, mmap.MADV_WILLNEED)


def _is_large(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.nbytes >= MAPPED_FROM


def _advise(tensor: Tensor, offset: int, length: int, advice: int) -> None:
    """Advice about pages that are not a mapping's, or that cannot be followed, does nothing."""
    start = tensor.data_ptr() + offset
    first = start // _PAGE * _PAGE
    _libc.madvise(first, start + length - first, advice)
