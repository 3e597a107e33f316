"""Files come in piece by piece, and what is counted as arrived stays."""

from __future__ import annotations

import base64
import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database, now
from app.lifecycle.uploads import expire, folder, parts
from app.main import create_app
from app.storage import open_storage
from app.tables import DataSet, Project, Upload
from app.uploads import service
from tests.app.conftest import RecordingDoorbell, bearer, make_key

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


def begin(client: TestClient, length: int, **headers: str) -> str:
    response = client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(length), **headers})
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == f"/v1/uploads/{response.json()['id']}"
    return str(response.json()["id"])


def send(client: TestClient, upload: str, offset: int, data: Any, **headers: str) -> httpx.Response:
    return client.patch(
        f"/v1/uploads/{upload}", content=data, headers={**PIECE, "Upload-Offset": str(offset), **headers}
    )


def uploaded(client: TestClient, data: bytes) -> str:
    upload = begin(client, len(data))
    assert send(client, upload, 0, data).status_code == 204
    return upload


def arrived(client: TestClient, upload: str) -> int:
    return int(client.head(f"/v1/uploads/{upload}", headers=TUS).headers["Upload-Offset"])


def content(database: Database, settings: Settings, upload: str) -> bytes:
    """What a worker reads of an upload."""
    storage, whole = open_storage(settings.storage_url), io.BytesIO()
    with database.reading() as session:
        for part in parts(session, upload):
            read = storage.read(part.key, whole)
            assert (part.bytes, part.sha256) == (read.bytes, read.sha256)
    return whole.getvalue()


def kept(settings: Settings, upload: str) -> int:
    """How many files lie in the storage for an upload."""
    return sum(1 for _ in open_storage(settings.storage_url).find(folder(upload)))


def sha256(data: bytes) -> dict[str, str]:
    return {"Upload-Checksum": f"sha256 {base64.b64encode(hashlib.sha256(data).digest()).decode()}"}


def test_a_server_says_what_it_speaks(client: TestClient, settings: Settings) -> None:
    response = client.options("/v1/uploads")
    assert response.status_code == 204
    assert response.headers["Tus-Extension"] == "creation,creation-with-upload,checksum,expiration,termination"
    assert response.headers["Tus-Checksum-Algorithm"] == "sha256"
    assert response.headers["Tus-Max-Size"] == str(settings.upload_limit_bytes)
    other = client.post("/v1/uploads", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    assert (other.status_code, other.headers["Tus-Version"]) == (412, "1.0.0")


def test_pieces_make_the_file(client: TestClient, database: Database, settings: Settings) -> None:
    upload = begin(client, 10, **{"Upload-Metadata": "filename Zm9v"})
    assert send(client, upload, 0, b"01234").headers["Upload-Offset"] == "5"
    head = client.head(f"/v1/uploads/{upload}", headers=TUS).headers
    assert (head["Upload-Offset"], head["Upload-Length"], head["Upload-Metadata"]) == ("5", "10", "filename Zm9v")
    assert "GMT" in head["Upload-Expires"]
    assert send(client, upload, 5, b"56789", **sha256(b"56789")).status_code == 204
    assert content(database, settings, upload) == b"0123456789"


@pytest.mark.parametrize("first", [1, 5, 10])
def test_the_request_that_begins_an_upload_may_bring_its_first_piece(
    client: TestClient, database: Database, settings: Settings, first: int
) -> None:
    data = b"0123456789"
    headers = {**PIECE, "Upload-Length": "10", **sha256(data[:first])}
    response = client.post("/v1/uploads", content=data[:first], headers=headers)
    assert response.status_code == 201
    assert response.headers["Upload-Offset"] == str(response.json()["offset"]) == str(first)
    upload = response.headers["Location"].rpartition("/")[2]
    assert arrived(client, upload) == first
    if first < 10:
        assert send(client, upload, 0, data).status_code == 409
        assert send(client, upload, first, data[first:]).status_code == 204
    assert content(database, settings, upload) == data


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"0123456789X", {}, 413, "too_large"),
        (b"012", sha256(b"013"), 460, "wrong_checksum"),
        (b"012", {"Upload-Checksum": "sha1 AAAA"}, 422, "invalid_spec"),
        (b"012", {"Upload-Length": "0"}, 422, "invalid_spec"),
    ],
)
def test_a_first_piece_that_is_refused_leaves_no_upload(
    client: TestClient,
    database: Database,
    settings: Settings,
    data: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    response = client.post("/v1/uploads", content=data, headers={**PIECE, "Upload-Length": "10", **headers})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "Location" not in response.headers
    with database.reading() as session:
        assert session.query(Upload).count() == 0
    assert kept(settings, "") == 0


def test_a_body_of_another_kind_is_no_first_piece(client: TestClient) -> None:
    response = client.post("/v1/uploads", content=b"012", headers={**TUS, "Upload-Length": "10"})
    assert (response.status_code, response.headers["Upload-Offset"]) == (201, "0")


def test_a_first_piece_larger_than_the_body_limit_streams_through(
    client: TestClient, database: Database, settings: Settings
) -> None:
    size = settings.body_limit_bytes + 17
    response = client.post("/v1/uploads", content=b"x" * size, headers={**PIECE, "Upload-Length": str(size)})
    assert (response.status_code, response.headers["Upload-Offset"]) == (201, str(size))
    assert len(content(database, settings, response.json()["id"])) == size


@pytest.mark.parametrize(
    ("offset", "data", "headers", "status", "code"),
    [
        (0, b"567", {}, 409, "wrong_offset"),
        (7, b"789", {}, 409, "wrong_offset"),
        (5, b"56789X", {}, 413, "too_large"),
        (5, b"567", {"Content-Type": "application/octet-stream"}, 415, "wrong_media_type"),
        (5, b"567", sha256(b"568"), 460, "wrong_checksum"),
        (5, b"567", {"Upload-Checksum": "md5 AAAA"}, 422, "invalid_spec"),
        (5, b"567", {"Upload-Checksum": "sha256 !"}, 422, "invalid_spec"),
        (5, b"567", {"Upload-Offset": "five"}, 422, "invalid_spec"),
        (5, b"567", {"Tus-Resumable": "2.0.0"}, 412, "wrong_protocol"),
    ],
)
def test_a_piece_that_does_not_fit_changes_nothing(
    client: TestClient,
    database: Database,
    settings: Settings,
    offset: int,
    data: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    upload = begin(client, 10)
    send(client, upload, 0, b"01234")
    response = send(client, upload, offset, data, **headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert arrived(client, upload) == 5
    assert send(client, upload, 5, b"56789").status_code == 204
    assert content(database, settings, upload) == b"0123456789"


@pytest.mark.parametrize(
    ("length", "status"), [("-1", 422), ("x", 422), ("0", 422), ("", 422), ("9" * 30, 422), ("99999", 413)]
)
def test_a_length_must_be_one(settings: Settings, database: Database, length: str, status: int) -> None:
    small = settings.model_copy(update={"upload_limit_bytes": 1000})
    with TestClient(create_app(small, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
        assert client.post("/v1/uploads", headers={**TUS, "Upload-Length": length}).status_code == status


def test_a_project_has_a_quota(settings: Settings, database: Database) -> None:
    small = settings.model_copy(update={"project_quota_bytes": 100})
    with TestClient(create_app(small, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
        first = begin(client, 60)
        refused = client.post("/v1/uploads", headers={**TUS, "Upload-Length": "60"})
        assert (refused.status_code, refused.json()["code"]) == (413, "quota_exceeded")
        elsewhere = bearer(make_key(database, project="elsewhere"))
        assert client.post("/v1/uploads", headers={**TUS, **elsewhere, "Upload-Length": "60"}).status_code == 201
        assert client.delete(f"/v1/uploads/{first}", headers=TUS).status_code == 204
        begin(client, 60)
    with database.transaction() as session:
        project = session.query(Project).filter_by(name="default").one()
        row = DataSet(
            id="ds_1",
            project_id=project.id,
            name="n",
            upload_id="upl_1",
            job_id="val_1",
            declared={},
            bytes=30,
            created_at=now(session),
        )
        session.add(row)
    with TestClient(create_app(small, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
        assert client.post("/v1/uploads", headers={**TUS, "Upload-Length": "20"}).status_code == 413
        assert client.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"}).status_code == 201


def test_a_piece_larger_than_the_body_limit_streams_through(
    client: TestClient, database: Database, settings: Settings
) -> None:
    size = 3 * settings.body_limit_bytes + 17
    upload = begin(client, size)
    block = b"x" * 100_000
    pieces = (block[: min(len(block), size - at)] for at in range(0, size, len(block)))
    assert send(client, upload, 0, pieces).status_code == 204
    assert len(content(database, settings, upload)) == size


def test_what_arrived_before_a_cut_is_kept_unless_it_has_a_checksum(
    client: TestClient, database: Database, settings: Settings
) -> None:
    """The connection breaks in the middle: an ASGI server then sends http.disconnect."""
    for checked, kept in (({}, 6), (sha256(b"0123456789"), 0)):
        upload = begin(client, 10)
        headers = {**PIECE, "Upload-Offset": "0", **checked, "Authorization": client.headers["Authorization"]}
        cut(client, f"/v1/uploads/{upload}", headers, [b"012", b"345"])
        assert arrived(client, upload) == kept
        assert send(client, upload, kept, b"0123456789"[kept:]).status_code == 204
        assert content(database, settings, upload) == b"0123456789"


CUT = {"type": "http.disconnect"}
WHOLE = {"type": "http.request", "body": b"", "more_body": False}


def cut(
    client: TestClient, url: str, headers: dict[str, str], chunks: list[bytes], *, ending: dict[str, Any] = CUT
) -> None:
    """Send chunk by chunk, which the test's client does not do."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ] + [ending]
    scope = {
        "type": "http",
        "method": "PATCH",
        "path": url,
        "raw_path": url.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
        "app": client.app,
    }

    async def run() -> None:
        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send_(_message: Any) -> None:
            pass

        await client.app(scope, receive, send_)  # type: ignore[arg-type]

    assert client.portal is not None
    client.portal.call(run)


def test_a_part_that_was_stored_but_never_counted_is_passed_over(
    client: TestClient, database: Database, settings: Settings
) -> None:
    """What kill -9 leaves: a file without a row. It goes when the upload goes."""
    upload = begin(client, 10)
    send(client, upload, 0, b"0123")
    open_storage(settings.storage_url).put(f"{folder(upload)}/{4:018d}-aa", io.BytesIO(b"garbage"))
    assert arrived(client, upload) == 4
    assert send(client, upload, 4, b"456789").status_code == 204
    assert content(database, settings, upload) == b"0123456789"
    assert kept(settings, upload) == 3
    assert client.delete(f"/v1/uploads/{upload}", headers=TUS).status_code == 204
    assert kept(settings, upload) == 0


def test_a_large_piece_becomes_several_parts(
    client: TestClient, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PART_BYTES", 4)
    pieces = [b"012", b"345", b"678", b"9"]
    for checksum, left in (({}, 2), (sha256(b"0123456789"), 2), (sha256(b"other"), 0)):
        upload = begin(client, 10)
        headers = {**PIECE, "Upload-Offset": "0", **checksum, "Authorization": client.headers["Authorization"]}
        cut(client, f"/v1/uploads/{upload}", headers, pieces, ending=WHOLE)
        assert content(database, settings, upload) == (b"0123456789" if left else b"")
        assert (arrived(client, upload), kept(settings, upload)) == (10 if left else 0, left)


def test_only_one_request_of_a_process_writes(client: TestClient) -> None:
    upload = begin(client, 6)
    with service._alone(upload):
        response = send(client, upload, 0, b"012345")
        assert (response.status_code, response.json()["code"]) == (423, "busy")
    assert arrived(client, upload) == 0
    assert send(client, upload, 0, b"012345").status_code == 204


def test_of_two_processes_that_write_one_is_counted(
    client: TestClient, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one finds that the offset has moved on; its part goes, the other's stays."""
    upload = begin(client, 6)
    with TestClient(create_app(settings, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as other:
        store = service._Piece.store

        def overtaken(piece: service._Piece) -> None:
            monkeypatch.setattr(service._Piece, "store", store)
            monkeypatch.setattr(service, "_written_to", set())  # the other process has a set of its own
            assert send(other, upload, 0, b"other!").status_code == 204
            monkeypatch.undo()
            store(piece)

        monkeypatch.setattr(service._Piece, "store", overtaken)
        response = send(client, upload, 0, b"slower")
    assert (response.status_code, response.json()["code"]) == (409, "wrong_offset")
    assert content(database, settings, upload) == b"other!"
    assert kept(settings, upload) == 1


def test_an_upload_belongs_to_its_project_and_needs_the_scope(
    client: TestClient, database: Database, stranger: dict[str, str]
) -> None:
    upload = begin(client, 3)
    reader = bearer(make_key(database, scopes=("jobs:read",)))
    for headers, status in ((stranger, 404), (reader, 403)):
        assert client.head(f"/v1/uploads/{upload}", headers={**TUS, **headers}).status_code == status
        assert send(client, upload, 0, b"012", **headers).status_code == status
        assert client.delete(f"/v1/uploads/{upload}", headers={**TUS, **headers}).status_code == status
    assert client.post("/v1/uploads", headers={**TUS, **reader, "Upload-Length": "1"}).status_code == 403


def test_a_forgotten_upload_expires(client: TestClient, settings: Settings, database: Database) -> None:
    forgotten, fresh = begin(client, 3), begin(client, 3)
    with database.transaction() as session:
        session.get_one(Upload, forgotten).expires_at = now(session) - timedelta(seconds=1)
    assert client.head(f"/v1/uploads/{forgotten}", headers=TUS).status_code == 404
    storage = open_storage(settings.storage_url)
    storage.put(f"{folder(forgotten)}/{0:018d}-aa", io.BytesIO(b"01"))
    assert expire(database, storage) == 1
    assert kept(settings, forgotten) == 0
    assert arrived(client, fresh) == 0


def test_a_full_disk_is_said_and_costs_what_was_not_counted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upload = begin(client, 6)
    send(client, upload, 0, b"012")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("app.storage.local.os.fsync", full)
        response = send(client, upload, 3, b"345")
    assert (response.status_code, response.json()["code"]) == (507, "storage_error")
    assert arrived(client, upload) == 3
    assert send(client, upload, 3, b"345").status_code == 204
