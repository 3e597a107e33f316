"""Files come down under a temporary name, go on where they were cut, and are renamed once their digest is right."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from stillhouse.client.errors import IntegrityError, StillhouseError, raise_for
from stillhouse.resources import Artifact

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def plain_name(artifact: Artifact) -> str:
    """The artifact's name, if it is no path. Raises IntegrityError."""
    if not _PLAIN_NAME.fullmatch(artifact.name):
        raise IntegrityError(
            f"the server names a file {artifact.name!r}, which is no plain file name; nothing was written"
        )
    return artifact.name


def fetch(http: httpx.Client, artifact: Artifact, directory: Path) -> Path:
    """One file, from where an earlier try was cut. Raises IntegrityError, TransportError."""
    target = directory / plain_name(artifact)
    draft = directory / f".{target.name}.{artifact.sha256[:12]}.part"
    have = draft.stat().st_size if draft.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": f'"{artifact.sha256}"'} if 0 < have < artifact.bytes else {}
    with _content(http, artifact, headers) as answer, draft.open("ab" if answer.status_code == 206 else "wb") as file:
        for chunk in answer.iter_bytes():
            file.write(chunk)
    if sha256_of(draft) != artifact.sha256:
        draft.unlink()
        raise IntegrityError(f"{artifact.name} did not arrive as it was stored (sha256 differs); try again")
    draft.rename(target)
    return target


@contextmanager
def _content(http: httpx.Client, artifact: Artifact, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer that holds the file: the server's, or that of the store which it points to."""
    with http.stream("GET", f"/v1/artifacts/{artifact.id}/content", headers=headers) as response:
        if not response.has_redirect_location:
            if not response.is_success:
                response.read()
                raise_for(response)
            yield response
            return
        link = response.url.join(response.headers["Location"])
    request = http.build_request("GET", link, headers=headers)
    for ours in ("Authorization", "If-Range"):  # the key is the server's alone; the store's tags are its own
        request.headers.pop(ours, None)
    response = http.send(request, stream=True)
    with closing(response):
        if response.status_code >= 500:
            raise httpx.RemoteProtocolError(f"the store answered {response.status_code}", request=None)
        if not response.is_success:  # the link itself is as good as a key, so no message names it
            raise StillhouseError(f"the store at {link.host} answered {response.status_code} for {artifact.name}")
        yield response


def check_manifest(directory: Path) -> list[str]:
    """Hold every file against ``manifest.json``; their names. Raises IntegrityError."""
    entries = json.loads((directory / "manifest.json").read_text())["files"]
    for entry in entries:
        file = directory / entry["name"]
        if not file.is_file() or sha256_of(file) != entry["sha256"]:
            raise IntegrityError(f"{entry['name']} is not what manifest.json says")
    return [entry["name"] for entry in entries]


def sha256_of(path: Path) -> str:
    """The digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
