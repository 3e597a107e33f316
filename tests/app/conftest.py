"""An application on a migrated database of its own, a recording doorbell, and callers of several kinds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.config import Settings
from app.db import Database, on_commit
from app.main import create_app
from app.migrate import upgrade
from app.queue import Doorbell
from tests.servers.backends import BACKENDS, backend

LAYERS = [{"name": "flatten"}, {"name": "linear", "features": 16}, {"name": "relu"}, {"name": "linear"}]
SPEC = {
    "name": "tiny",
    "dataset": {"id": "digits"},
    "teacher": {"architecture": "resnet8"},
    "student": {"layers": LAYERS},
    "training": {"epochs": 2},
}


class RecordingDoorbell(Doorbell):
    """Remembers whom it rang for; the broker is an outside thing."""

    def __init__(self) -> None:
        super().__init__(Celery(set_as_current=False))
        self.rung: list[str] = []

    def ring(self, queue: str, job_id: str) -> None:
        self.rung.append(job_id)

    def complaint(self) -> str | None:
        return None

    def ring_after(self, session: Session, queue: str, job_id: str) -> None:
        on_commit(session, lambda: self.ring(queue, job_id))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "stillhouse.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Iterator[Settings]:
    """Of a migrated database, on SQLite and on PostgreSQL in turn."""
    shutil.copy(migrated, tmp_path / "stillhouse.db")
    with backend(request.param) as urls:
        changed = {name.removeprefix("STILLHOUSE_").lower(): url for name, url in urls.items()}
        yield Settings(data_dir=tmp_path, upkeep_seconds=3600, **changed)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = Database(settings.database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def doorbell() -> RecordingDoorbell:
    return RecordingDoorbell()


@pytest.fixture
def client(settings: Settings, database: Database, doorbell: RecordingDoorbell) -> Iterator[TestClient]:
    """Speaks with an admin key of the project ``default``."""
    key = make_key(database)
    with TestClient(create_app(settings, doorbell=doorbell), headers=bearer(key)) as speaking:
        yield speaking


@pytest.fixture
def stranger(client: TestClient, database: Database) -> dict[str, str]:
    """The headers of another project's admin."""
    return bearer(make_key(database, project="elsewhere"))


def make_key(database: Database, *, project: str = "default", scopes: tuple[str, ...] = ("admin",)) -> str:
    with database.transaction() as session:
        return accounts.create(session, project=project, name="test", scopes=scopes).key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def submit(client: TestClient, **changes: object) -> str:
    response = client.post("/v1/jobs", json={**SPEC, **changes})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])
