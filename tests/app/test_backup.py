"""The commands of docs/how-to/back-up.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.main import create_app
from tests.app.conftest import RecordingDoorbell, submit
from tests.app.running import claimed, succeeded
from tests.harness import TREE
from tests.servers import postgres

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
