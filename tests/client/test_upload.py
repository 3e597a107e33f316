"""Sending a file: pieces, and on after whatever went wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from stillhouse import AsyncClient, Client, ConnectionFailed, Forbidden, WrongFile
from stillhouse.client import upload as sending
from stillhouse.client.errors import ApiError, NotFound, StillhouseError
from tests.client.conftest import Handler
from tests.client.test_client import problem

Connect = Callable[[Handler], Client]
UPLOAD = {"id": "upl_1", "length": 10, "offset": 0, "created_at": "2026-01-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PIECE_BYTES", 4)
    monkeypatch.setattr(sending, "pause_before", lambda _attempt: 0.0)


class Tus:
    """A server that remembers, and does each of ``mishaps`` once at a piece."""

    def __init__(self, *mishaps: str) -> None:
        self.data = b""
        self.mishaps = list(mishaps)
        self.heads = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            assert request.headers["Upload-Length"] == "10"
            return httpx.Response(201, json=UPLOAD)
        if request.method == "HEAD":
            self.heads += 1
            status = 200 if request.url.path == "/v1/uploads/upl_1" else 404
            return httpx.Response(status, headers={"Upload-Offset": str(len(self.data)), "Upload-Length": "10"})
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap == "cut before":
            raise httpx.ReadError("cut")
        if mishap in ("busy", "store away"):
            return problem(423 if mishap == "busy" else 503, mishap)
        if int(request.headers["Upload-Offset"]) != len(self.data):
            return problem(409, "wrong_offset")
        digest = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
        if mishap == "garbled" or request.headers["Upload-Checksum"] != f"sha256 {digest}":
            return problem(460, "wrong_checksum")
        self.data += request.content
        if mishap == "cut after":
            raise httpx.ReadError("cut")
        return httpx.Response(204, headers={"Upload-Offset": str(len(self.data))})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.zip").write_bytes(b"0123456789")
    return tmp_path / "x.zip"


@pytest.mark.parametrize(
    "mishaps", [(), ("cut before",), ("cut after",), ("busy", "busy"), ("garbled", "cut after"), ("store away",)]
)
def test_a_file_arrives_whole_whatever_happens(connect: Connect, file: Path, mishaps: tuple[str, ...]) -> None:
    server = Tus(*mishaps)
    seen: list[tuple[int, int]] = []
    assert connect(server).upload(file, on_progress=lambda *at: seen.append(at)) == "upl_1"
    assert server.data == b"0123456789"
    assert server.heads == len(mishaps)
    assert (seen[0], seen[-1]) == ((0, 10), (10, 10))


def test_an_earlier_upload_is_gone_on_with(connect: Connect, file: Path) -> None:
    server = Tus()
    server.data = b"01234567"
    assert connect(server).upload(file, upload_id="upl_1") == "upl_1"
    assert server.data == b"0123456789"


def test_another_file_is_refused_before_anything_of_it_is_sent(connect: Connect, file: Path) -> None:
    server = Tus()
    server.data = b"0123"
    file.write_bytes(b"another file")
    with pytest.raises(WrongFile, match="upl_1 was begun with a file of 10 bytes and this one holds 12"):
        connect(server).upload(file, upload_id="upl_1")

    async def send() -> None:
        async with AsyncClient("http://server", "sk_test", transport=httpx.MockTransport(server)) as client:
            await client.upload(file, upload_id="upl_1")

    with pytest.raises(WrongFile, match="go on with the same file"):
        asyncio.run(send())
    assert server.data == b"0123"


def test_an_upload_that_is_no_more_is_named(connect: Connect, file: Path) -> None:
    with pytest.raises(NotFound, match="no upload upl_nope"):
        connect(Tus()).upload(file, upload_id="upl_nope")


def test_what_cannot_get_better_ends_at_once(connect: Connect, file: Path) -> None:
    def forbid(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json=UPLOAD) if request.method == "POST" else problem(403, "forbidden")

    with pytest.raises(Forbidden):
        connect(forbid).upload(file)
    with pytest.raises(ApiError):
        connect(Tus(*["busy"] * 100)).upload(file)
    with pytest.raises(ConnectionFailed):
        connect(Tus(*["cut before"] * 100)).upload(file)


def test_a_file_that_shrinks_meanwhile_is_said(connect: Connect, file: Path) -> None:
    server = Tus()
    with pytest.raises(StillhouseError, match="changed while it was sent"):
        connect(server).upload(file, on_progress=lambda _at, _size: file.write_bytes(b"0123"))


def test_the_async_client_does_the_same(file: Path) -> None:
    server = Tus("cut before", "cut after")

    async def send() -> str:
        async with AsyncClient("http://server", "sk_test", transport=httpx.MockTransport(server)) as client:
            return await client.upload(file)

    assert asyncio.run(send()) == "upl_1"
    assert server.data == b"0123456789"
