"""Uploads and validations under kill -9: what arrived stays, and a validation that was lost is done again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import Database
from app.tables import DataSet, Job, Upload
from stillhouse import Client
from tests.engine.archives import folder, zipped
from tests.harness import Service, eventually, service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("validations") / "data") as started:
        yield started


@pytest.fixture
def client(running: Service) -> Iterator[Client]:
    key = (running.data_dir / "api-key").read_text().strip()
    with Client((running.data_dir / "url").read_text().strip(), key) as speaking:
        yield speaking


def content(running: Service, upload: str) -> bytes:
    """What has arrived: the parts' files."""
    files = sorted((running.data_dir / "storage" / "uploads" / upload).glob("*"))
    return b"".join(file.read_bytes() for file in files)


def test_an_upload_goes_on_after_the_api_was_killed(running: Service, client: Client, tmp_path: Path) -> None:
    data = bytes(range(256)) * (2**20 // 8) + b"end"
    (tmp_path / "x.bin").write_bytes(data)
    killed: list[int] = []

    def disturb(arrived: int, total: int) -> None:
        if 8 * 2**20 <= arrived < total and not killed:
            killed.append(arrived)
            assert running.kill("api", "")

    upload = client.upload(tmp_path / "x.bin", on_progress=disturb)
    assert killed
    assert content(running, upload) == data
    client.drop_upload(upload)
    assert content(running, upload) == b""
    assert not list((running.data_dir / "storage" / "uploads").rglob("*.part"))


def test_a_validation_outlives_its_worker_and_comes_to_one_result(
    running: Service, client: Client, tmp_path: Path
) -> None:
    upload = client.upload(zipped(tmp_path / "x.zip", folder(train=20, test=5)))
    dataset = client.create_dataset(name="disturbed", upload=upload)
    deadline = time.monotonic() + 60
    while client.dataset(dataset.id).state != "validating":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert running.kill("worker", "")
    eventually(lambda: client.dataset(dataset.id).state == "ready", what=lambda: str(client.dataset(dataset.id)))
    database = Database(running.database_url)
    with database.reading() as session:
        row = session.get_one(DataSet, dataset.id)
        job = session.get_one(Job, row.job_id)
        assert (job.attempt, job.status) == (2, "succeeded")
        assert session.scalar(select(Upload.id)) is None
        assert row.files is not None
        assert {file["key"].rpartition("/")[0] for file in row.files.values()} == {f"datasets/{row.id}/attempts/2"}
    database.dispose()
    kept = {path.name for path in (running.data_dir / "storage" / "datasets" / dataset.id).rglob("*") if path.is_file()}
    assert kept == {"data.safetensors", "dataset.json"}
    assert content(running, upload) == b""


def test_a_waiting_validation_does_not_wait_for_a_training(running: Service, client: Client, tmp_path: Path) -> None:
    spec = {
        "dataset": {"id": "digits"},
        "student": {"architecture": "resnet8"},
        "method": {"name": "none"},
        "training": {"epochs": 500},
    }
    job = client.submit(spec)
    eventually(lambda: client.get(job.id).status == "running", what="the training to run")
    upload = client.upload(zipped(tmp_path / "x.zip", folder(train=20, test=5)))
    assert client.wait_for(client.create_dataset(name="beside", upload=upload).id).state == "ready"
    assert client.get(job.id).status == "running"
    client.cancel(job.id)
    assert client.wait(job.id).status == "cancelled"
