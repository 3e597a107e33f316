"""Archives, unpacked member by member with every check before a byte is used.

Refused: paths out of the archive, absolute paths, NUL in a name, links, devices, encrypted members, two members of
one name, more bytes than declared, and bombs. Passed over with a mention: archives in the archive, hidden files.
"""

from __future__ import annotations

import gzip
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from worker.engine.data.files import Files, Member, shown
from worker.engine.errors import UnusableUpload

MEMBER_LIMIT = 16 * 2**30
_NAME_LIMIT = 1024
_NESTED = {"zip", "tar", "gz", "tgz", "zst", "bz2", "xz", "7z", "rar", "jar"}
_HIDDEN = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_IDX_GZIP = re.compile(r"(^|/)[A-Za-z0-9_-]+-(idx[13]-ubyte)\.gz$")
_MAX_WINDOW = 2**27
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    zstandard.ZstdError,
    gzip.BadGzipFile,
    EOFError,
    ValueError,  # this and those below: numbers in headers that are none, or lead nowhere
    LookupError,
    OverflowError,
    struct.error,
)


def unpack(upload: Path, scratch: Path) -> Files:
    """The files of an upload, told by its first bytes. Raises UnusableUpload."""
    with upload.open("rb") as file:
        start = file.read(512)
    size = upload.stat().st_size
    if start.startswith(b"PAR1"):
        return Files(upload, "parquet", size, [Member("upload.parquet", 0, size)])
    files = Files(scratch, "", size)
    files.path.touch()
    try:
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            files.kind = "zip"
            _unzip(upload, files)
        elif start.startswith(b"\x1f\x8b"):
            files.kind = "tar.gz"
            with gzip.open(upload, "rb") as stream:
                _untar(cast("BinaryIO", stream), files)
        elif start.startswith(b"\x28\xb5\x2f\xfd"):
            files.kind = "tar.zst"
            with (
                upload.open("rb") as packed,
                zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(packed) as reader,
            ):
                _untar(cast("BinaryIO", reader), files)
        elif start[257:262] == b"ustar":
            files.kind = "tar"
            with upload.open("rb") as stream:
                _untar(stream, files)
        else:
            raise UnusableUpload(
                "it is neither a zip, a tar (.gz, .zst), an npz nor a Parquet file.",
                remedy="Pack a folder of images, one folder for each class, as zip or tar.",
            )
    except _DAMAGED as error:
        raise UnusableUpload(f"the archive is damaged: {error}.", remedy="Pack it again.") from error
    if not files.members:
        raise UnusableUpload("the archive holds no file.", remedy="Pack a folder of images.")
    return files


def clean_name(name: str) -> str:
    """A member's name with forward slashes and no empty steps. Raises UnusableUpload for one that leads elsewhere."""
    if "\x00" in name or len(name) > _NAME_LIMIT:
        raise _refused(name, f"has NUL in its name, or more than {_NAME_LIMIT} letters")
    slashed = name.replace("\\", "/")
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed):
        raise _refused(name, "has an absolute path")
    steps = [step for step in slashed.split("/") if step not in ("", ".")]
    if ".." in steps or not steps:
        raise _refused(name, "leads out of the archive")
    return "/".join(steps)


def _unzip(upload: Path, files: Files) -> None:
    taken: set[str] = set()
    with zipfile.ZipFile(upload) as archive:
        for info in archive.infolist():
            name = clean_name(info.orig_filename) if info.orig_filename.strip("./\\") else ""
            if info.is_dir() or info.orig_filename.endswith("\\"):
                continue
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _refused(name, "is a link or a device")
            if info.flag_bits & 1:
                raise _refused(name, "is encrypted")
            if not _wanted(name, taken, files):
                continue
            _check_size(name, info.file_size)
            try:
                with archive.open(info) as stream:
                    _add(files, name, stream, info.file_size)
            except NotImplementedError as error:
                raise UnusableUpload(
                    f"{shown(name)} is packed by a method that is not known here: {error}.",
                    remedy="Pack with deflate, or without compression.",
                ) from error


def _untar(stream: BinaryIO, files: Files) -> None:
    taken: set[str] = set()
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            name = clean_name(info.name) if info.name.strip("./") else ""
            if info.isdir():
                continue
            if not info.isreg() or not name:
                raise _refused(info.name, "is a link or a device")
            if not _wanted(name, taken, files):
                continue
            _check_size(name, info.size)
            content = archive.extractfile(info)
            assert content is not None
            _add(files, name, content, info.size)


def _add(files: Files, name: str, stream: IO[bytes], size: int) -> None:
    """Take a member in. IDX files are commonly packed each by itself, so these are unpacked as well."""
    if packed := _IDX_GZIP.search(name):
        with gzip.open(cast("BinaryIO", stream), "rb") as unpacked:
            files.add(name[: packed.end(2)], cast("BinaryIO", unpacked), limit=MEMBER_LIMIT)
        return
    files.add(name, cast("BinaryIO", stream), limit=size)


def _wanted(name: str, taken: set[str], files: Files) -> bool:
    if name in taken:
        raise _refused(name, "is there twice")
    taken.add(name)
    steps = name.split("/")
    if any(step.startswith(".") or step in _HIDDEN for step in steps):
        files.passed_over.append(f"{shown(name)}: hidden or the system's own")
        return False
    if steps[-1].rpartition(".")[2].lower() in _NESTED and "." in steps[-1] and not _IDX_GZIP.search(name):
        files.passed_over.append(f"{shown(name)}: an archive in the archive")
        return False
    return True


def _check_size(name: str, size: int) -> None:
    if size > MEMBER_LIMIT:
        raise _refused(name, f"claims {size:,} bytes, and {MEMBER_LIMIT:,} are the limit")


def _refused(name: str, why: str) -> UnusableUpload:
    return UnusableUpload(f"the archive is refused because {shown(name)} {why}.", remedy="Pack plain files only.")
