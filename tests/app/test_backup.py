"""The commands of docs/how-to/back-up.md, run as they stand there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.main import create_app
from tests.app.conftest import RecordingDoorbell, bearer, make_key, submit
from tests.app.running import claimed, succeeded
from tests.harness import TREE
from tests.servers import postgres, require, seaweedfs

PAGE = (TREE / "docs" / "how-to" / "back-up.md").read_text()


def run(title: str, **variables: str) -> None:
    """The block of the page that begins with the comment ``title``."""
    (block,) = re.findall(rf"```sh\n# {title}\n(.*?)```", PAGE, flags=re.DOTALL)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PATH": programs, "PYTHONPATH": str(TREE), **variables}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLHOUSE_")} | ours
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_service_is_restored_into_an_empty_place(
    client: TestClient, database: Database, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = client.app.state.services.storage  # type: ignore[attr-defined]
    done = submit(client, name="done")
    succeeded(database, storage, claimed(database), content=b"the student")
    running = submit(client, name="running")
    claimed(database)
    with elsewhere(settings, tmp_path_factory.mktemp("elsewhere")) as (back_up, restore, restored):
        back_up()
        after = submit(client, name="after")
        restore()
        with TestClient(create_app(restored, doorbell=RecordingDoorbell()), headers=client.headers) as second:
            statuses = {row["id"]: row["status"] for row in second.get("/v1/jobs").json()["data"]}
            assert statuses == {done: "succeeded", running: "running"}
            assert after not in statuses
            (artifact,) = second.get(f"/v1/jobs/{done}/artifacts").json()["data"]
            assert second.get(f"/v1/artifacts/{artifact['id']}/content").content == b"the student"
            assert [event["seq"] for event in second.get(f"/v1/jobs/{done}/events").json()["data"]] == [1, 2, 3, 4, 5]
            assert second.get("/readyz").json()["ready"]


@pytest.mark.slow
def test_a_fleet_with_its_bucket_is_restored_into_an_empty_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("rclone", package="rclone", variable="PATH")
    source, backup, target = (seaweedfs.fresh() for _ in range(3))
    for name, value in source.items():
        monkeypatch.setenv(name, value)  # all three lie in one store, under prefixes of their own
    keys = {name: value for name, value in source.items() if name.startswith("AWS_")}
    keys["AWS_CA_BUNDLE"] = ""  # of this machine, where it has one: Debian's rclone would not start with it
    bucket = {"BACKUP_BUCKET": backup["STILLHOUSE_STORAGE_URL"].removeprefix("s3://")}
    with postgres_pair() as (before, after):
        first = fleet_settings(tmp_path / "first", before, source)
        database = Database(before)
        with TestClient(create_app(first, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
            storage = client.app.state.services.storage  # type: ignore[attr-defined]
            job_id = submit(client)
            succeeded(database, storage, claimed(database), content=b"the student")
            shown = downloaded(client, job_id)
            run("back up: PostgreSQL", BACKUP=str(tmp_path), STILLHOUSE_DATABASE_URL=before)
            run("back up: S3", **keys, **bucket, STILLHOUSE_STORAGE_URL=source["STILLHOUSE_STORAGE_URL"])
            client.delete(f"/v1/jobs/{job_id}")
            headers = dict(client.headers)
        database.dispose()
        run("restore: PostgreSQL", BACKUP=str(tmp_path), STILLHOUSE_DATABASE_URL=after)
        run("restore: S3", **keys, **bucket, STILLHOUSE_STORAGE_URL=target["STILLHOUSE_STORAGE_URL"])
        second = fleet_settings(tmp_path / "second", after, target)
        with TestClient(create_app(second, doorbell=RecordingDoorbell()), headers=headers) as client:
            assert downloaded(client, job_id) == shown == (b"the student", "application/octet-stream")
            assert client.get("/readyz").json()["ready"]


def fleet_settings(folder: Path, database_url: str, store: dict[str, str]) -> Settings:
    storage_url = store["STILLHOUSE_STORAGE_URL"]
    folder.mkdir()
    return Settings(data_dir=folder, upkeep_seconds=3600, database_url=database_url, storage_url=storage_url)


def downloaded(client: TestClient, job_id: str) -> tuple[bytes, str]:
    """A job's only file as its link gives it, checked against the sha256; and its media type."""
    (row,) = client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]
    answer = client.get(f"/v1/artifacts/{row['id']}/content", follow_redirects=False)
    found = httpx.get(answer.headers["Location"])
    assert hashlib.sha256(found.content).hexdigest() == row["sha256"]
    return found.content, found.headers["Content-Type"]


@contextmanager
def postgres_pair() -> Iterator[tuple[str, str]]:
    """A migrated database, and an empty one."""
    urls = postgres.fresh(), postgres.empty()
    try:
        yield urls
    finally:
        for url in urls:
            postgres.drop(url)


@contextmanager
def elsewhere(settings: Settings, place: Path) -> Iterator[tuple[Callable[[], None], Callable[[], None], Settings]]:
    """What backs ``settings`` up, what restores it, and the settings of the restored service."""
    backup, target = place / "backup", place / "restored"
    source = {"STILLHOUSE_DATA_DIR": str(settings.data_dir), "BACKUP": str(backup)}
    into = {"STILLHOUSE_DATA_DIR": str(target), "BACKUP": str(backup)}
    if settings.database_url.startswith("sqlite"):
        restored = Settings(data_dir=target, upkeep_seconds=3600)
        yield partial(run, "back up: SQLite", **source), partial(run, "restore: SQLite", **into), restored
        return
    empty = postgres.empty()
    source["STILLHOUSE_DATABASE_URL"], into["STILLHOUSE_DATABASE_URL"] = settings.database_url, empty

    def back_up() -> None:
        run("back up: PostgreSQL", **source)
        shutil.copytree(settings.data_dir / "storage", backup / "storage")  # the store's own tool, in a fleet

    def restore() -> None:
        run("restore: PostgreSQL", **into)
        shutil.copytree(backup / "storage", target / "storage")

    try:
        yield back_up, restore, Settings(data_dir=target, upkeep_seconds=3600, database_url=empty)
    finally:
        postgres.drop(empty)
