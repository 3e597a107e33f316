"""The client: what it repeats, what it refuses, how it goes on after a cut."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from stillhouse import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    IntegrityError,
    InvalidSpec,
    JobSpec,
    NotConfigured,
    NotFound,
    Unauthorized,
)
from tests.client.conftest import Handler

Connect = Callable[[Handler], Client]
SPEC = {"dataset": {"id": "digits"}, "student": {"architecture": "resnet8"}, "method": {"name": "none"}}
JOB = {
    "id": "job_1",
    "name": "n",
    "project": "default",
    "spec": JobSpec.model_validate(SPEC).model_dump(mode="json"),
    "status": "queued",
    "terminal": False,
    "attempt": 0,
    "progress": {},
    "created_at": "2026-01-01T00:00:00Z",
}


def problem(status: int, code: str, errors: tuple[dict[str, str], ...] = ()) -> httpx.Response:
    body = {
        "title": "t",
        "status": status,
        "detail": "what happened",
        "code": code,
        "request_id": "r",
        "errors": errors,
    }
    return httpx.Response(status, json=body)


def event(seq: int, *, terminal: bool = False) -> dict[str, object]:
    return {
        "id": f"evt_{seq}",
        "job_id": "job_1",
        "seq": seq,
        "type": "job.status_changed",
        "attempt": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "data": {"terminal": terminal},
    }


PING = b": ping\n\n"


def stream(*frames: dict[str, object] | bytes, cut: bool = False) -> httpx.Response:
    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for item in frames:
                if isinstance(item, bytes):
                    yield item
                else:
                    yield f"id: {item['seq']}\nevent: {item['type']}\ndata: {json.dumps(item)}\n\n".encode()
            if cut:
                raise httpx.ReadError("cut")

    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Body())


def test_submit_sends_one_idempotency_key_over_all_its_tries(connect: Connect) -> None:
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(201, json=JOB)

    assert connect(handler).submit(SPEC).id == "job_1"
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_server_that_stays_away_is_a_sentence(connect: Connect) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ConnectionFailed, match="is the server running"):
        connect(handler).get("job_1")


def test_what_must_not_be_repeated_is_sent_once(connect: Connect) -> None:
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        raise httpx.ReadError("cut")

    with pytest.raises(ConnectionFailed):
        connect(handler).create_key(name="x", scopes=["jobs:read"])
    assert sent == ["/v1/api-keys"]


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (404, NotFound), (409, Conflict), (422, InvalidSpec)]
)
def test_a_problem_becomes_its_error(connect: Connect, status: int, error: type[Exception]) -> None:
    field = {"pointer": "/x", "code": "c", "message": "m"}
    with pytest.raises(error, match="what happened") as caught:
        connect(lambda _: problem(status, "code", (field,))).get("job_1")
    assert caught.value.errors[0].pointer == "/x"  # type: ignore[attr-defined]


def test_an_answer_that_is_no_problem_is_an_error_too(connect: Connect) -> None:
    with pytest.raises(NotFound, match="answered 404"):
        connect(lambda _: httpx.Response(404, text="<html>")).get("job_1")


def test_pages_are_read_until_the_last(connect: Connect) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        second = request.url.params.get("cursor") == "next"
        page = {"data": [{**JOB, "id": "job_2" if second else "job_1"}], "has_more": not second}
        return httpx.Response(200, json={**page, "next_cursor": None if second else "next"})

    found = connect(handler).jobs(status=["queued"], metadata={"git": "1a"})
    assert [job.id for job in found] == ["job_1", "job_2"]


def test_following_goes_on_after_the_last_event_seen(connect: Connect) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Last-Event-ID"])
        match len(asked):
            case 1:
                return stream(event(1), PING, event(2), cut=True)
            case 2:
                raise httpx.ConnectError("restarting")
            case _:
                return stream(event(3, terminal=True))

    assert [found.seq for found in connect(handler).follow("job_1")] == [1, 2, 3]
    assert asked == ["0", "2", "2"]


def test_following_does_not_wait_for_a_server_that_was_never_there(connect: Connect) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ConnectError("refused")

    with pytest.raises(ConnectionFailed, match="is the server running"):
        list(connect(handler).follow("job_1"))
    assert len(asked) == 5


def test_following_after_the_last_event_ends(connect: Connect) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return stream()
        return httpx.Response(200, json={**JOB, "status": "succeeded", "terminal": True})

    assert list(connect(handler).follow("job_1", after_seq=9)) == []


def test_following_a_job_that_is_not_there_is_an_error(connect: Connect) -> None:
    with pytest.raises(NotFound):
        list(connect(lambda _: problem(404, "not_found")).follow("job_1"))


def files(contents: dict[str, bytes], *, lie: str | None = None) -> tuple[Handler, list[str]]:
    """A server with artifacts; the body of ``lie`` is not what its digest says."""
    contents = dict(contents)
    entries = [{"name": name, "sha256": hashlib.sha256(body).hexdigest()} for name, body in contents.items()]
    contents["manifest.json"] = json.dumps({"files": entries}).encode()
    ranges: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/artifacts"):
            rows = [
                {
                    "id": name,
                    "name": name,
                    "bytes": len(body),
                    "sha256": hashlib.sha256(body).hexdigest(),
                    "media_type": "x",
                }
                for name, body in contents.items()
            ]
            return httpx.Response(200, json={"data": rows, "has_more": False})
        name = request.url.path.split("/")[3]
        body = b"not the bytes" if name == lie else contents[name]
        if wanted := request.headers.get("Range"):
            ranges.append(wanted)
            return httpx.Response(206, content=body[int(wanted.removeprefix("bytes=").rstrip("-")) :])
        return httpx.Response(200, content=body)

    return handler, ranges


def test_a_download_is_checked_and_complete(connect: Connect, tmp_path: Path) -> None:
    handler, _ = files({"a.bin": b"abc", "b.json": b"{}"})
    found = connect(handler).download("job_1", tmp_path / "out")
    assert sorted(path.name for path in found) == ["a.bin", "b.json", "manifest.json"]
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"abc"


def test_a_file_that_is_not_what_its_digest_says_is_not_kept(connect: Connect, tmp_path: Path) -> None:
    handler, _ = files({"a.bin": b"abc"}, lie="a.bin")
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        connect(handler).download("job_1", tmp_path)
    assert not any(path.name.endswith("a.bin") or "part" in path.name for path in tmp_path.iterdir())


def test_a_cut_download_goes_on_where_it_was(connect: Connect, tmp_path: Path) -> None:
    handler, ranges = files({"a.bin": b"abcdef"})
    digest = hashlib.sha256(b"abcdef").hexdigest()
    (tmp_path / f".a.bin.{digest[:12]}.part").write_bytes(b"abc")
    connect(handler).download("job_1", tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"abcdef"
    assert ranges == ["bytes=3-"]


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ".hidden", ""])
def test_a_name_that_is_a_path_is_refused_before_anything_is_written(
    connect: Connect, tmp_path: Path, name: str
) -> None:
    row = {"id": "art_1", "name": name, "bytes": 1, "sha256": "0" * 64, "media_type": "x"}
    page = {"data": [row], "has_more": False}
    with pytest.raises(IntegrityError, match="no plain file name"):
        connect(lambda _: httpx.Response(200, json=page)).download("job_1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_server_of_this_machine_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STILLHOUSE_URL", "STILLHOUSE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STILLHOUSE_DATA_DIR", str(tmp_path))
    with pytest.raises(NotConfigured, match="stillhouse serve"):
        Client()
    (tmp_path / "url").write_text("http://127.0.0.1:1\n")
    (tmp_path / "api-key").write_text("sk_x\n")
    with Client() as client:
        assert client.url == "http://127.0.0.1:1"


def test_the_async_client_speaks_the_same(connect: Connect) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            frame = f"id: 1\nevent: x\ndata: {json.dumps(event(1))}\n\n: ping\n\n"
            frame += f"id: 2\nevent: x\ndata: {json.dumps(event(2, terminal=True))}\n\n"
            return httpx.Response(200, text=frame, headers={"Content-Type": "text/event-stream"})
        return httpx.Response(200, json={**JOB, "status": "succeeded", "terminal": True})

    async def run() -> str:
        async with AsyncClient("http://server", "sk", transport=httpx.MockTransport(handler)) as client:
            job = await client.submit(SPEC)
            return (await client.wait(job.id)).status

    assert asyncio.run(run()) == "succeeded"
