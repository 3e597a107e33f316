"""A worker in the register: while it lives, while it drains, once it is gone. And unfit, it claims nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from app import probe, signs, tables
from app.config import Settings
from app.db import Database
from app.migrate import upgrade
from app.storage import open_storage
from tests.app.running import WORKER
from tests.harness import eventually
from worker.fitness import Fitness
from worker.registration import Registration
from worker.supervisor import Supervisor


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "stillhouse.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    shutil.copy(migrated, tmp_path / "stillhouse.db")
    return Settings(data_dir=tmp_path, heartbeat_seconds=0.05, lease_seconds=1)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = Database(settings.database_url)
    yield opened
    opened.dispose()


def row(database: Database) -> tables.Worker | None:
    with database.reading() as session:
        return session.scalar(select(tables.Worker))


def test_a_worker_is_in_the_register_for_as_long_as_it_lives(settings: Settings, database: Database) -> None:
    draining = threading.Event()
    fitness = Fitness(settings.data_dir, least_free_bytes=0, devices=("cpu",))
    with closing(Registration(settings, database, WORKER, fitness=fitness, draining=draining)):
        born = row(database)
        assert born is not None
        assert (born.state, born.devices, born.queues) == ("ready", ["cpu"], ["default"])
        assert {"python", "stillhouse", "torch"} <= set(born.versions)
        assert born.memory_bytes > 2**20
        eventually(lambda: (now := row(database)) and now.heartbeat_at > born.heartbeat_at, what="a heartbeat")
        draining.set()
        eventually(lambda: (now := row(database)) and now.state == "draining", what="the drain to be told of")
    assert row(database) is None


def test_an_unfit_worker_says_so_and_claims_nothing(settings: Settings, database: Database) -> None:
    cramped = settings.model_copy(update={"least_free_bytes": 2**60})
    storage = open_storage(settings.storage_url)
    supervisor = Supervisor(cramped, database, storage, WORKER)
    assert not supervisor.takes_jobs()
    assert not Supervisor(cramped, database, storage, replace(WORKER, kind="validation")).takes_jobs()
    assert Supervisor(settings, database, storage, WORKER).takes_jobs()
    with closing(Registration(cramped, database, WORKER, fitness=supervisor.fitness, draining=supervisor.draining)):
        seen = row(database)
        assert seen is not None
        assert seen.state == "unfit"
        assert "make room" in str(seen.reason)


def test_a_health_check_reads_the_sign_of_life(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    monkeypatch.setattr("sys.argv", ["probe", "worker"])
    assert probe.main() == 1
    signs.give(settings.data_dir, host="host", name="w1")
    assert probe.main() == 0
    assert not signs.fresh(settings.data_dir, host="host", within=30, now=2**40)
    signs.take_back(settings.data_dir, host="host", name="w1")
    assert probe.main() == 1
