"""Archives that mean harm: each is refused before a byte of it is used, with the member's name in the sentence."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.archives import folder, ingested, picture, tarred, zipped
from worker.engine.data import files, unpack
from worker.engine.data.files import shown
from worker.engine.data.unpack import clean_name
from worker.engine.errors import UnusableUpload


def hostile_names() -> dict[str, str]:
    return {
        "../outside.png": "leads out of the archive",
        "a/../../outside.png": "leads out of the archive",
        "..\\..\\outside.png": "leads out of the archive",
        "/etc/passwd.png": "has an absolute path",
        "\\\\server\\share\\x.png": "has an absolute path",
        "C:\\windows\\x.png": "has an absolute path",
        "a/" + "x" * 1100 + ".png": "has NUL in its name, or more than 1024 letters",
    }


@pytest.mark.parametrize("name", hostile_names())
def test_paths_out_of_the_archive(tmp_path: Path, name: str) -> None:
    for upload in (zipped(tmp_path / "x.zip", {name: picture()}), tarred(tmp_path / "x.tar", {name: picture()})):
        with pytest.raises(UnusableUpload, match=hostile_names()[name]):
            ingested(upload)
    assert {path.name for path in tmp_path.iterdir()} <= {"x.zip", "x.tar", "x.zip.scratch", "x.tar.scratch"}


def test_a_nul_in_a_name(tmp_path: Path) -> None:
    data = zipped(tmp_path / "x.zip", {"a/image_png": picture()}).read_bytes()
    (tmp_path / "x.zip").write_bytes(data.replace(b"image_png", b"image\x00png"))
    with pytest.raises(UnusableUpload, match="has NUL in its name"):
        ingested(tmp_path / "x.zip")


def test_windows_separators_are_folders(tmp_path: Path) -> None:
    names = {name.replace("/", "\\"): data for name, data in folder(train=2).items()}
    assert ingested(zipped(tmp_path / "x.zip", names))[2]["splits"] == {"train": 4}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a/link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UnusableUpload, match=r"a/link\.png is a link or a device"):
        ingested(tmp_path / "x.tar")


def test_a_symlink_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("a/link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnusableUpload, match="is a link or a device"):
        ingested(tmp_path / "x.zip")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "x.zip", {"a/0.png": picture()}).read_bytes())
    data[6] |= 1  # the flag in the local header, then the one in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UnusableUpload, match=r"a/0\.png is encrypted"):
        ingested(tmp_path / "x.zip")


def test_two_members_of_one_name(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        warnings.simplefilter("ignore")
        for name in ("a/0.png", "a\\0.png"):
            archive.writestr(name, picture())
    with pytest.raises(UnusableUpload, match=r"a/0\.png is there twice"):
        ingested(tmp_path / "x.zip")


def bomb_zip(path: Path) -> Path:
    return zipped(path, {"a/0.png": bytes(70 * 2**20)})


def bomb_tar(path: Path) -> Path:
    path.write_bytes(gzip.compress(tarred(path.with_suffix(".tar"), {"a/0.png": bytes(70 * 2**20)}).read_bytes(), 9))
    return path


@pytest.mark.parametrize("pack", [bomb_zip, bomb_tar])
def test_a_bomb_is_stopped_while_it_unpacks(
    tmp_path: Path, pack: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RATIO_ALLOWANCE", 2**20)
    with pytest.raises(UnusableUpload, match="more than 100 times its size"):
        ingested(pack(tmp_path / "x"))
    assert (tmp_path / "x.scratch").stat().st_size < 60 * 2**20


def test_too_many_files_and_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = zipped(tmp_path / "x.zip", folder(train=3))
    with monkeypatch.context() as patched:
        patched.setattr(files, "FILES_LIMIT", 5)
        with pytest.raises(UnusableUpload, match="more than 5 files"):
            ingested(upload)
    with monkeypatch.context() as patched:
        patched.setattr(files, "TOTAL_LIMIT", 300)
        with pytest.raises(UnusableUpload, match="unpacks to more than 300 bytes"):
            ingested(upload)
    monkeypatch.setattr(unpack, "MEMBER_LIMIT", 10)
    with pytest.raises(UnusableUpload, match=r"claims \d+ bytes, and 10 are the limit"):
        ingested(upload)


def test_a_tar_member_that_claims_terabytes_of_holes(tmp_path: Path) -> None:
    """A sparse member has a size of its own choosing, and hardly a byte in the archive."""
    info = tarfile.TarInfo("a/0.png")
    info.size = 0
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "a/0.png",
        "GNU.sparse.size": str(2**42),
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.map": f"{2**42},0",
    }
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(UnusableUpload, match="claims 4,398,046,511,104 bytes"):
        ingested(tmp_path / "x.tar")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("name", "pack"), [("x.zip", zipped), ("x.tar.gz", tarred), ("x.tar.zst", tarred)])
def test_a_damaged_archive_is_said_to_be_damaged(
    tmp_path: Path, name: str, pack: Callable[[Path, dict[str, bytes]], Path], share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 5000), dtype=np.uint8)
    upload = pack(tmp_path / name, {f"a/{n}.png": row.tobytes() for n, row in enumerate(noise)})
    data = upload.read_bytes()
    upload.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnusableUpload, match="the archive is damaged"):
        ingested(upload)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello", picture(), b"\x80\x04K\x01.", bytes(600)):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(UnusableUpload, match="neither a zip, a tar"):
            ingested(tmp_path / "x")


def test_a_pickle_in_an_npz_is_never_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'run')!r}, 'w')",))

    out = io.BytesIO()
    np.savez(out, images=np.array([Evil()], dtype=object), labels=np.arange(1))
    (tmp_path / "x.npz").write_bytes(out.getvalue())
    with pytest.raises(UnusableUpload, match="pickled objects, which are never opened"):
        ingested(tmp_path / "x.npz")
    assert not (tmp_path / "run").exists()


@given(st.text(min_size=1, max_size=40))
def test_no_name_leads_anywhere(name: str) -> None:
    try:
        clean = clean_name(name)
    except UnusableUpload:
        return
    assert not clean.startswith("/")
    assert all(step not in ("", ".", "..") for step in clean.split("/"))
    assert "\\" not in clean
    assert "\x00" not in clean


@given(st.text(max_size=400))
def test_a_name_is_shown_without_what_a_terminal_obeys(name: str) -> None:
    said = shown(name)
    assert said.isprintable()
    assert len(said) <= 1200
