"""A step that needs more memory than there is: told apart from other errors, and how many images would fit."""

from __future__ import annotations

import ctypes
import errno
import gc
import re
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from worker.engine.errors import OutOfMemory

_SIGNS = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "out of memory",
)
"""In the messages of RuntimeErrors, which torch's allocator for the CPU raises, or its mapping of files."""
_PERHAPS = "could not create a primitive"
"""What oneDNN says where it gets no memory, but not only there: where a smaller batch gets on, it was that."""


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory is used up, whoever noticed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def first_line(error: BaseException) -> str:
    """What the allocator said, in a line, without its place in the source."""
    line = (str(error).splitlines() or ["no memory left"])[0]
    return re.sub(r"^\[enforce fail at [^]]*\]\s*", "", line)


def within_memory(act: Callable[[], None], *, step: Callable[[Tensor], None], samples: Tensor) -> None:
    """Do ``act``, which is ``step(samples)`` or needs as much. Raises OutOfMemory with how many images would fit.

    That is found by trying: the step on a half of the batch, a quarter and so on. What it changes is of no use then.
    """
    try:
        act()
    except (MemoryError, RuntimeError) as error:
        if not _perhaps(error):
            raise
        said, sure = first_line(error), out_of_memory(error)
    else:
        return
    # only here, where the error is gone, is what its frames held free again
    fits = _fits(step, samples)
    if fits is None and not sure:
        raise RuntimeError(said)
    raise OutOfMemory(f"a step of {len(samples)} images needs more memory than there is ({said}).", fits=fits)


def _perhaps(error: BaseException) -> bool:
    return out_of_memory(error) or (isinstance(error, RuntimeError) and _PERHAPS in str(error))


def _fits(step: Callable[[Tensor], None], samples: Tensor) -> int | None:
    """Half of the largest power of two below the batch of which a step can be done; None where not even two images fit.

    Half, because a training holds somewhat more than the step that was tried: the canaries' copies, what a validation
    leaves, memory in pieces.
    """
    count = 1 << (len(samples) - 1).bit_length()
    while (count := count // 2) >= 2:
        _give_back()
        try:
            step(samples[:count])
        except (MemoryError, RuntimeError) as error:
            if not _perhaps(error):
                raise
        else:
            return max(2, count // 2)
    return None


def _give_back() -> None:
    """What allocators keep of what was freed counts against a limit, and is in pieces."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(AttributeError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)
