"""What is deleted once nothing needs it, and what is not: on both storages."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.config import Settings
from app.db import Database, now
from app.errors import StorageAway
from app.lifecycle.claim import claim
from app.lifecycle.garbage import collect, discard, drop, expire_checkpoints
from app.lifecycle.lease import held
from app.lifecycle.validation import conclude
from app.storage import LocalStorage, Storage, open_storage
from app.tables import DataSet, Job
from tests.app.conftest import submit
from tests.app.running import claimed, ended, succeeded
from tests.app.test_assets import FACTS, VALIDATOR, make
from tests.app.test_uploads import begin, send
from tests.servers.seaweedfs import fresh
from worker.reporter import Reporter

AT_ONCE = timedelta(minutes=-5)
"""A grace under which the newest file is old, whatever the store's clock says."""


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With files in a folder, or in a real store."""
    if request.param == "local":
        return settings
    for name, value in fresh().items():
        monkeypatch.setenv(name, value)
    return settings.model_copy(update={"storage_url": os.environ["STILLHOUSE_STORAGE_URL"]})


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return open_storage(settings.storage_url)


def write(storage: Storage, key: str) -> str:
    return storage.put(key, io.BytesIO(b"x")).key


def everything(storage: Storage) -> set[str]:
    folders = ("jobs", "uploads", "datasets", "health")
    return {found.key for folder in folders for found in storage.find(folder)}


def test_only_what_no_row_names_is_collected(storage: Storage, client: TestClient, database: Database) -> None:
    published = submit(client)
    lost = write(storage, f"jobs/{published}/attempts/1/student.safetensors")
    lease = claimed(database)
    ended(database, lease, "drained")
    succeeded(database, storage, claimed(database))
    running = submit(client)
    write(storage, f"jobs/{running}/attempts/{claimed(database).attempt}/student.json")
    upload = begin(client, 10)
    send(client, upload, 0, b"01234")
    uncounted = write(storage, f"uploads/{upload}/{5:018d}-aa")
    dataset = make(client)
    with database.transaction() as session:
        validation = claim(session, VALIDATOR, lease_seconds=60)
        assert validation is not None
        file = {
            "key": write(storage, f"datasets/{dataset}/attempts/1/data.safetensors"),
            "bytes": 1,
            "sha256": "1" * 64,
        }
        conclude(
            session, held(session, validation), report={}, facts=FACTS, files={"data.safetensors": file}, max_losses=3
        )
    strays = {
        lost,
        uncounted,
        write(storage, "jobs/job_gone/attempts/1/student.json"),
        write(storage, f"datasets/{dataset}/attempts/2/data.safetensors"),
        write(storage, "uploads/upl_gone/part"),
        write(storage, "health/probe"),
    }
    before = everything(storage)
    assert collect(database, storage) == 0, "a file of today may belong to a row that is about to be written"
    strays |= {key for key in before if key.startswith("uploads/") and upload not in key}  # of what was validated
    assert collect(database, storage, grace=AT_ONCE) == len(strays)
    assert everything(storage) == before - strays
    assert collect(database, storage, grace=AT_ONCE) == 0


def test_of_a_job_that_has_ended_the_newest_checkpoint_is_kept_for_a_while(
    storage: Storage, client: TestClient, database: Database
) -> None:
    job_id = submit(client)
    lease = claimed(database)
    reporter = Reporter(database, lease, log_limit_bytes=100, lost=lambda: True)
    for number, phase in enumerate(("teacher", "teacher", "student", "student")):
        stored = storage.put(f"jobs/{job_id}/attempts/1/checkpoints/{number}.pt", io.BytesIO(b"x"))
        reporter.checkpoint(stored, {"phase": phase, "complete": False, "epoch": number, "step": 0})
    assert expire_checkpoints(database, storage, keep_seconds=0) == 0, "it may be resumed"
    succeeded(database, storage, lease)
    assert expire_checkpoints(database, storage, keep_seconds=1000) == 2
    kept = client.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
    assert [(row["phase"], row["epoch"]) for row in kept] == [("student", 3), ("teacher", 1)]
    left = {f"jobs/{job_id}/attempts/1/{name}" for name in ("checkpoints/1.pt", "checkpoints/3.pt")}
    published = f"jobs/{job_id}/attempts/1/student.safetensors"
    assert everything(storage) == left | {published}
    with database.transaction() as session:
        session.get_one(Job, job_id).finished_at = now(session) - timedelta(seconds=2000)
    assert expire_checkpoints(database, storage, keep_seconds=1000) == 2
    assert everything(storage) == {published}


def judged(client: TestClient, database: Database, storage: Storage, name: str, content: bytes) -> str:
    """A data set of two files, as a worker stores them and their verdict: the description holds the name."""
    dataset = make(client)
    with database.transaction() as session:
        lease = claim(session, VALIDATOR, lease_seconds=60)
        assert lease is not None
        files = {}
        for file, data in (("data.safetensors", content), ("dataset.json", name.encode())):
            stored = storage.put(f"datasets/{dataset}/attempts/1/{file}", io.BytesIO(data))
            files[file] = {"key": stored.key, "bytes": stored.bytes, "sha256": stored.sha256}
        drop(storage, conclude(session, held(session, lease), report={}, facts=FACTS, files=files, max_losses=3))
    return dataset


def content(database: Database, storage: Storage, dataset: str) -> tuple[bytes, bytes]:
    """What a job that names the data set would train on."""
    with database.reading() as session:
        files = session.get_one(DataSet, dataset).files
    assert files is not None
    read = io.BytesIO(), io.BytesIO()
    for name, into in zip(("data.safetensors", "dataset.json"), read, strict=True):
        assert storage.read(files[name]["key"], into).sha256 == files[name]["sha256"]
    return read[0].getvalue(), read[1].getvalue()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_the_same_data_is_kept_once_and_until_the_last_that_needs_it_goes(
    storage: Storage, client: TestClient, database: Database, order: tuple[int, ...]
) -> None:
    names, pixels = ("a", "b", "b"), b"many pixels"
    left = {judged(client, database, storage, name, pixels): name for name in names}
    made = list(left)
    other = judged(client, database, storage, "a", b"other pixels")
    drop(storage, [found.key for found in storage.find("uploads")])
    stored = sorted(key.rpartition("/")[2] for key in everything(storage))
    assert stored == ["data.safetensors"] * 2 + ["dataset.json"] * 4
    for gone in order:
        assert client.delete(f"/v1/datasets/{made[gone]}").status_code == 204
        del left[made[gone]]
        collect(database, storage, grace=AT_ONCE)
        for dataset, name in left.items():
            assert content(database, storage, dataset) == (pixels, name.encode())
    assert {key.split("/")[1] for key in everything(storage)} == {other}


def test_another_project_shares_nothing(
    storage: Storage, client: TestClient, stranger: dict[str, str], database: Database
) -> None:
    judged(client, database, storage, "a", b"pixels")
    client.headers.update(stranger)
    judged(client, database, storage, "a", b"pixels")
    with database.reading() as session:
        assert [row.content_of for row in session.scalars(select(DataSet))] == [None, None]


def test_what_a_killed_writer_left_in_a_folder_is_collected(tmp_path: Path, database: Database) -> None:
    storage = LocalStorage(tmp_path / "files")
    draft = tmp_path / "files" / "jobs" / "job_1" / f".{'0' * 32}.part"
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"half")
    assert collect(database, storage, grace=AT_ONCE) == 1
    assert not draft.exists()


def test_what_cannot_be_deleted_now_is_left_for_later(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    class Away(LocalStorage):
        def delete(self, *keys: str) -> None:
            raise StorageAway("the store does not answer")

        def delete_prefix(self, prefix: str) -> None:
            raise StorageAway("the store does not answer")

    discard(Away(tmp_path), "jobs/job_1", "jobs/job_2")
    drop(Away(tmp_path), ["jobs/job_1/x"])
    assert caplog.text.count("will be deleted later: the store does not answer") == 3
