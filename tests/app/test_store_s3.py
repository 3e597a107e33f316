"""The S3 storage on a real store: what it keeps, what it says when it cannot, and that it never hangs."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app import doctor
from app.config import Settings
from app.db import Database
from app.errors import StorageAway, StorageError
from app.main import create_app
from app.storage import LocalStorage, Storage, open_storage
from app.storage.refusals import explain
from app.tables import Job
from tests.app.conftest import RecordingDoorbell, bearer, make_key
from tests.app.test_assets import VALIDATOR, make
from tests.servers.proxy import Proxy
from tests.servers.seaweedfs import SeaweedFS, fresh, shared
from worker.supervisor import Supervisor

LARGE = 40 * 2**20 + 17
"""Three parts of a multipart upload."""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in the session's store."""
    settings = fresh()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings["STILLHOUSE_STORAGE_URL"]


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "files")
    return open_storage(request.getfixturevalue("place"))


def everything(storage: Storage) -> list[str]:
    return sorted(found.key for folder in ("jobs", "health") for found in storage.find(folder))


def test_both_storages_keep_what_they_are_given(storage: Storage, tmp_path: Path) -> None:
    stored = storage.put("jobs/job_1/x.bin", io.BytesIO(b"abc"))
    assert (stored.bytes, stored.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert storage.fetch("jobs/job_1/x.bin", tmp_path / "y") == stored
    assert (tmp_path / "y").read_bytes() == b"abc"
    into = io.BytesIO(b"")
    for _ in range(2):
        storage.read("jobs/job_1/x.bin", into)
    assert into.getvalue() == b"abcabc"
    storage.put("jobs/job_12/x.bin", io.BytesIO(b""))
    storage.put("jobs/job_1/attempts/1/y.bin", io.BytesIO(b"y"))
    assert everything(storage) == ["jobs/job_1/attempts/1/y.bin", "jobs/job_1/x.bin", "jobs/job_12/x.bin"]
    storage.delete("jobs/job_1/x.bin", "jobs/job_1/never.bin")
    with pytest.raises(FileNotFoundError):
        storage.fetch("jobs/job_1/x.bin", tmp_path / "y")
    for _ in range(2):
        storage.delete_prefix("jobs/job_1")
    assert everything(storage) == ["jobs/job_12/x.bin"]
    storage.check()
    assert everything(storage) == ["jobs/job_12/x.bin"]


@pytest.mark.parametrize("key", ["../x", "jobs/../../x", "/etc/passwd", "jobs//x", "jobs/.hidden", "jobs/a\x00b", ""])
def test_neither_takes_what_is_no_key(storage: Storage, tmp_path: Path, key: str) -> None:
    for use in (
        lambda: storage.put(key, io.BytesIO(b"abc")),
        lambda: storage.fetch(key, tmp_path / "y"),
        lambda: storage.delete(key),
        lambda: storage.delete_prefix(key),
        lambda: storage.link(key),
    ):
        with pytest.raises(ValueError, match="not a storage key"):
            use()


def test_a_large_file_goes_in_parts_and_comes_back(place: str, tmp_path: Path) -> None:
    storage = open_storage(place)
    data = os.urandom(LARGE)
    stored = storage.put("jobs/job_1/large.bin", io.BytesIO(data))
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert storage.fetch("jobs/job_1/large.bin", tmp_path / "y") == stored
    assert shared().open_multipart_uploads() == []


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing_behind(place: str) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 20 * 2**20:
                raise OSError(5, "Input/output error")
            return super().read(size)

    storage = open_storage(place)
    with pytest.raises(OSError, match="Input/output error"):
        storage.put("jobs/job_1/large.bin", Breaking(bytes(LARGE)))
    assert everything(storage) == []
    assert shared().open_multipart_uploads() == []


def test_a_link_hands_out_one_file_for_some_minutes(place: str) -> None:
    storage = open_storage(place)
    storage.put("jobs/job_1/report.html", io.BytesIO(b"0123456789"), media_type="text/html; charset=utf-8")
    link = storage.link("jobs/job_1/report.html")
    assert 300 <= int(httpx.URL(link).params["X-Amz-Expires"]) <= 900
    answer = httpx.get(link)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="report.html"'
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    part = httpx.get(link, headers={"Range": "bytes=4-6"})
    assert (part.status_code, part.content) == (206, b"456")
    for changed in (link.replace("report.html", "other.html"), link.replace("X-Amz-Signature=", "X-Amz-Signature=0")):
        assert httpx.get(changed).status_code == 403
    assert httpx.get(link.partition("?")[0]).status_code == 403


def test_links_name_the_address_that_clients_use(place: str) -> None:
    elsewhere = Proxy(shared().port)
    storage = open_storage(place, public_endpoint=f"http://127.0.0.1:{elsewhere.port}")
    storage.put("jobs/job_1/x.bin", io.BytesIO(b"abc"))
    link = storage.link("jobs/job_1/x.bin")
    assert link.startswith(f"http://127.0.0.1:{elsewhere.port}")
    assert httpx.get(link).content == b"abc"
    elsewhere.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong; set AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the access key is unknown; set AWS_ACCESS_KEY_ID"),
        (
            {"STILLHOUSE_STORAGE_URL": "s3://nowhere"},
            "no such bucket; create it, or name another in STILLHOUSE_STORAGE",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    storage = open_storage(os.environ["STILLHOUSE_STORAGE_URL"])
    for use in (
        lambda: storage.put("jobs/job_1/x.bin", io.BytesIO(b"abc")),
        lambda: storage.fetch("jobs/job_1/x.bin", tmp_path / "y"),
        lambda: list(storage.find("jobs")),
        lambda: storage.delete_prefix("jobs/job_1"),
        storage.check,
    ):
        with pytest.raises(StorageError, match=said) as caught:
            use()
        assert not isinstance(caught.value, StorageAway)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("RequestTimeTooSkewed", "clock"),
        ("AccessDenied", "PutObject"),
        ("ExpiredToken", "AWS_SESSION_TOKEN"),
        ("PermanentRedirect", "AWS_REGION"),
        ("QuotaExceeded", "free some space"),
    ],
)
def test_every_refusal_has_its_remedy(code: str, remedy: str) -> None:
    error = explain("cannot write x", f"Client error with status 403 Forbidden: <Error><Code>{code}</Code></Error>")
    assert remedy in str(error)
    assert not isinstance(error, StorageAway)


@pytest.mark.parametrize("url", ["s3://", "s3://B!", "s3://bucket/a//b", "s3://bucket/../x", "ftp://x", "gs://bucket"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(StorageError, match="STILLHOUSE_STORAGE_URL must be"):
        open_storage(url)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:9000", "ftp://store", "http://", "http://a b"])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "STILLHOUSE_STORAGE_PUBLIC_ENDPOINT"])
def test_an_endpoint_must_be_one(monkeypatch: pytest.MonkeyPatch, variable: str, address: str) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(StorageError, match=f"{variable} must be an address like https://"):
        open_storage("s3://bucket", public_endpoint=os.environ.get("STILLHOUSE_STORAGE_PUBLIC_ENDPOINT", ""))


def test_without_credentials_it_is_said_which_to_set(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are then looked for where AWS' machines find them, here at an address that nobody answers at."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match="no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET"):
        open_storage(place).check()


def test_a_store_that_is_not_there_is_said_soon(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    storage = open_storage(place)
    for _ in range(3):
        with pytest.raises(StorageAway, match="the store does not answer; look whether it runs"):
            storage.check()


def test_a_store_that_hangs_is_given_up(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Proxy(shared().port)
    silent.mode = "half-open"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.port}")
    with pytest.raises(StorageAway, match="does not answer"):
        open_storage(place).check()
    silent.close()


def test_a_store_that_cuts_an_upload_shows_no_part_of_it(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cutting = Proxy(shared().port)
    cutting.room = 20 * 2**20
    monkeypatch.setenv("AWS_ENDPOINT_URL", cutting.url)
    with pytest.raises(StorageAway):
        open_storage(place, patience_seconds=0.5).put("jobs/job_1/large.bin", io.BytesIO(bytes(LARGE)))
    cutting.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", shared().endpoint)
    storage = open_storage(place)
    assert everything(storage) == []
    storage.put("jobs/job_1/large.bin", io.BytesIO(bytes(LARGE)))
    assert everything(storage) == ["jobs/job_1/large.bin"]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A store that a test may kill."""
    store = SeaweedFS()
    store.start()
    for name, value in store.settings("own").items():
        monkeypatch.setenv(name, value)
    yield store
    store.kill()


def test_a_store_that_starts_again_is_waited_for_and_has_kept_all(own: SeaweedFS, tmp_path: Path) -> None:
    storage = open_storage(os.environ["STILLHOUSE_STORAGE_URL"], patience_seconds=60)
    before = storage.put("jobs/job_1/before.bin", io.BytesIO(b"before"))
    own.kill()
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(storage.put, "jobs/job_1/during.bin", io.BytesIO(b"during"))
        own.start()
        assert writing.result().bytes == 6
    assert storage.fetch("jobs/job_1/before.bin", tmp_path / "x") == before
    assert everything(storage) == ["jobs/job_1/before.bin", "jobs/job_1/during.bin"]


@pytest.mark.parametrize("fault", ["wrong key", "flipped byte"])
def test_a_worker_that_cannot_have_a_file_says_so_and_the_work_waits(
    place: str, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    settings = settings.model_copy(update={"storage_url": place})
    with TestClient(create_app(settings, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
        dataset = make(client)
        assert client.get("/readyz").json()["parts"]["storage"] == "ok"
        storage = open_storage(place)
        (part,) = storage.find("uploads")
        said = "is damaged: its sha256 is not the one that arrived"
        if fault == "wrong key":
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
            said = "the secret key is wrong; set AWS_SECRET_ACCESS_KEY"
        else:
            storage.put(part.key, io.BytesIO(b"dara"))
        assert Supervisor(settings, database, open_storage(place), VALIDATOR).run_next()
        assert client.get(f"/v1/datasets/{dataset}").json()["state"] == "pending"
    with database.reading() as session:
        (job,) = session.scalars(select(Job))
        assert (job.status, job.status_reason) == ("queued", "storage_error")
        assert said in (job.status_detail or "")


def test_doctor_says_what_is_wrong_with_the_store(
    place: str, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings = settings.model_copy(update={"storage_url": place})
    assert doctor._storage(settings) == place
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    finding = doctor._try("storage", lambda: doctor._storage(settings), "")
    assert finding.state == "error"
    assert "the access key is unknown; set AWS_ACCESS_KEY_ID" in finding.detail
