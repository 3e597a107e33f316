"""Files that lie in a store: the client goes where the server points, and does not show its key there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from stillhouse import Client, StillhouseError
from tests.client.conftest import Handler
from tests.client.test_client import files

Connect = Callable[[Handler], Client]
LINK = "http://store:8333/bucket/{name}?X-Amz-Signature=secret"


def stored(contents: dict[str, bytes], *answers: int) -> tuple[Handler, list[httpx.Request]]:
    """A server that redirects to a store; the store gives each of ``answers`` once before it gives the file."""
    serve, _ = files(contents)
    seen: list[httpx.Request] = []
    mishaps = list(answers)

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "server":
            if not request.url.path.endswith("/content"):
                return serve(request)
            return httpx.Response(307, headers={"Location": LINK.format(name=request.url.path.split("/")[3])})
        seen.append(request)
        if mishaps:
            return httpx.Response(mishaps.pop(0), text="<Error/>")
        name = request.url.path.split("/")[2]
        return serve(httpx.Request("GET", f"http://server/v1/artifacts/{name}/content", headers=request.headers))

    return handler, seen


def test_the_key_is_not_shown_to_the_store(connect: Connect, tmp_path: Path) -> None:
    handler, seen = stored({"a.bin": b"abc"})
    connect(handler).download("job_1", tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    assert len(seen) == 2
    assert not any("Authorization" in request.headers for request in seen)


def test_a_cut_download_goes_on_at_the_store(connect: Connect, tmp_path: Path) -> None:
    handler, seen = stored({"a.bin": b"abcdef"})
    digest = hashlib.sha256(b"abcdef").hexdigest()
    (tmp_path / f".a.bin.{digest[:12]}.part").write_bytes(b"abc")
    connect(handler).download("job_1", tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"abcdef"
    assert "bytes=3-" in [request.headers.get("Range") for request in seen]
    assert not any("If-Range" in request.headers for request in seen)


def test_a_store_that_is_busy_is_asked_again(connect: Connect, tmp_path: Path) -> None:
    handler, _ = stored({"a.bin": b"abc"}, 503, 500)
    connect(handler).download("job_1", tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"abc"


def test_a_refusal_names_no_link(connect: Connect, tmp_path: Path) -> None:
    handler, _ = stored({"a.bin": b"abc"}, 403)
    with pytest.raises(StillhouseError, match=r"the store at store answered 403 for a\.bin") as caught:
        connect(handler).download("job_1", tmp_path)
    assert "secret" not in str(caught.value)
