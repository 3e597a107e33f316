"""Arrays that numpy wrote, mapped from where they lie and never unpickled."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from worker.engine.data.files import Files, Member, shown
from worker.engine.errors import UnusableUpload


def mapped_array(files: Files, member: Member) -> npt.NDArray[np.generic]:
    """Mapped from the file, not read; never a pickle. Raises UnusableUpload."""
    with files.reading() as reader, reader.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read_header(file)
        except (ValueError, KeyError, SyntaxError, TypeError, RecursionError) as error:
            raise UnusableUpload(
                f"{shown(member.name)} is no array that numpy wrote.", remedy="Write it with np.save or np.savez."
            ) from error
        start = file.tell()
    if dtype.hasobject:
        raise UnusableUpload(
            f"{shown(member.name)} holds pickled objects, which are never opened.",
            remedy="Store numbers as numbers and names as text (dtype 'U').",
        )
    if start + math.prod(shape) * dtype.itemsize != member.size or 0 in shape or not shape:
        raise UnusableUpload(
            f"{shown(member.name)} says {list(shape)} of {dtype}, and holds {member.size - start:,} bytes.",
            remedy="Write it again.",
        )
    flat: npt.NDArray[np.generic] = np.memmap(
        files.path, dtype=dtype, mode="r", offset=member.offset + start, shape=(math.prod(shape),)
    )
    return flat.reshape(shape, order="F" if fortran else "C")
