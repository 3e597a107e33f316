"""The commands of docs/how-to/back-up.md, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.main import create_app
from tests.app.conftest import RecordingDoorbell, submit
from tests.app.running import claimed, succeeded
from tests.harness import TREE

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


def test_a_service_is_restored_into_an_empty_directory(
    client: TestClient, database: Database, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = client.app.state.services.storage  # type: ignore[attr-defined]
    done = submit(client, name="done")
    succeeded(database, storage, claimed(database), content=b"the student")
    running = submit(client, name="running")
    claimed(database)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    backup, restored = elsewhere / "backup", elsewhere / "restored"
    run("back up: SQLite", STILLHOUSE_DATA_DIR=str(settings.data_dir), BACKUP=str(backup))
    after = submit(client, name="after")
    run("restore: SQLite", STILLHOUSE_DATA_DIR=str(restored), BACKUP=str(backup))

    fresh = Settings(data_dir=restored, upkeep_seconds=3600)
    with TestClient(create_app(fresh, doorbell=RecordingDoorbell()), headers=client.headers) as second:
        statuses = {row["id"]: row["status"] for row in second.get("/v1/jobs").json()["data"]}
        assert statuses == {done: "succeeded", running: "running"}
        assert after not in statuses
        (artifact,) = second.get(f"/v1/jobs/{done}/artifacts").json()["data"]
        assert second.get(f"/v1/artifacts/{artifact['id']}/content").content == b"the student"
        assert [event["seq"] for event in second.get(f"/v1/jobs/{done}/events").json()["data"]] == [1, 2, 3, 4, 5]
        assert second.get("/readyz").json()["ready"]
