"""Full disks, real ones of a few megabytes: where the files are kept, in the scratch folder, under the database."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.db import Database
from app.problems import _mendable
from tests import servers
from tests.faults.disturbance import SHORT, undisturbed
from tests.harness import Service, eventually, service
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root, which CI is")

SPEC: dict[str, Any] = {**SHORT, "name": "disk", "training": {**SHORT["training"], "epochs": 12}}
BRIEF: dict[str, Any] = {**SPEC, "training": {**SHORT["training"], "epochs": 2}}


class Disk:
    """A small one, and what fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, *, but: int = 0) -> None:
        """Leave so many bytes."""
        free = os.statvfs(self.folder)
        with self._filler.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), free.f_bavail * free.f_frsize - but)

    def make_room(self) -> None:
        """Undo ``fill``."""
        self._filler.unlink()


@contextmanager
def disk(folder: Path, *, megabytes: int) -> Iterator[Disk]:
    """Mounted at ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def training(running: Service) -> str:
    """A job that has stored a checkpoint and trains on."""
    job_id = running.submit(SPEC)
    eventually(lambda: running.get(f"/v1/jobs/{job_id}/checkpoints")["data"], what="a checkpoint")
    return job_id


def differences(running: Service, job_id: str, spec: dict[str, Any] = SPEC) -> list[str]:
    """What is wrong with it, once it has ended."""
    running.wait(job_id)
    return undisturbed(running, spec).differences(running, job_id, scratch=running.data_dir / "scratch")


def waits_for_room(running: Service, job_id: str) -> str:
    """What the job says of itself once it does."""
    eventually(lambda: running.job(job_id)["status_reason"] == "storage_error", what="the disk to be full")
    return str(running.job(job_id)["status_detail"])


@pytest.mark.slow
def test_where_the_store_is_full_the_job_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """Checkpoints are given up with a warning; what cannot be published waits."""
    with disk(tmp_path / "small", megabytes=1) as small:
        small.fill(but=4096)  # less than any checkpoint
        with service(tmp_path / "data", STILLHOUSE_STORAGE_URL=small.folder.as_uri()) as running:
            job_id = running.submit(BRIEF)
            assert "No space left on device; free some space" in waits_for_room(running, job_id)
            warnings = [event["data"]["message"] for event in running.events(job_id) if event["type"] == "job.warning"]
            assert any("checkpoint could not be kept" in message for message in warnings)
            assert running.get(f"/v1/jobs/{job_id}/artifacts")["data"] == []
            small.make_room()
            assert differences(running, job_id, BRIEF) == []


@pytest.mark.slow
def test_where_the_scratch_folder_is_full_the_job_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """It lies in the data directory, with the broker and the data sets; files and database are elsewhere."""
    elsewhere = {
        "STILLHOUSE_DATABASE_URL": f"sqlite:///{tmp_path / 'stillhouse.db'}",
        "STILLHOUSE_STORAGE_URL": (tmp_path / "files").as_uri(),
        "STILLHOUSE_LEAST_FREE_BYTES": "0",  # the worker would take no job, and so not meet the end of the disk
    }
    with disk(tmp_path / "data", megabytes=320) as small, service(tmp_path / "data", **elsewhere) as running:
        job_id = training(running)
        small.fill()
        assert "No space left on device" in waits_for_room(running, job_id)
        small.make_room()
        assert differences(running, job_id) == []


@pytest.mark.slow
def test_where_the_database_is_full_it_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    with disk(tmp_path / "small", megabytes=16) as small:
        url = f"sqlite:///{small.folder / 'stillhouse.db'}"
        with service(tmp_path / "data", STILLHOUSE_DATABASE_URL=url) as running:
            job_id = training(running)
            small.fill()
            refused = eventually(lambda: full(running), what="the database to be full")
            assert refused["code"] == "storage_error"
            assert refused["detail"] == (
                "the database's disk is full; free some space, then send the same request again"
            )
            assert running.job(job_id)["terminal"] is False, "what was written can be read"
            small.make_room()
            assert differences(running, job_id) == []


def test_a_postgres_that_is_full_is_told_from_one_that_is_away() -> None:
    """A real one: what a table of a full disk refuses, the API answers with the remedy."""
    server = Postgres(durable=False)
    server.start()
    place = servers.folder("space", owner=server.user)
    database = Database(server.url())
    with disk(place, megabytes=1):
        shutil.chown(place, server.user)
        with server.connect() as session:
            session.execute(f"CREATE TABLESPACE small LOCATION '{place}'".encode())
            session.execute("CREATE TABLE filled (text TEXT) TABLESPACE small")
        with pytest.raises(OperationalError) as caught, database.transaction() as writing:
            writing.execute(text("INSERT INTO filled SELECT repeat(md5(n::text), 8) FROM generate_series(1, 9000) n"))
        database.dispose()
        server.stop()
    found = _mendable(caught.value)
    assert found is not None
    assert (found.status, found.code) == (507, "storage_error")
    assert "free some space" in str(found)


def full(running: Service) -> dict[str, Any] | None:
    """The problem that a request meets which writes, once it meets one."""
    answer = running.http.post("/v1/jobs", json={**SPEC, "resources": {"queue": "nobody"}})
    if answer.status_code == 201:
        return None
    assert answer.status_code == 507, answer.text
    return dict(answer.json())
