"""The doctor looks, says how to mend what is wrong, and makes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import doctor
from app.config import Settings
from app.db import Database
from tests.app.conftest import submit
from tests.app.test_fleet import report


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child is protected by takes seconds to ask, and is asked in the command's own test."""
    monkeypatch.setattr(doctor, "_asked", lambda name, _module: doctor.Finding(name, "ok", ""))


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    shutil.copy(migrated, tmp_path / "stillhouse.db")
    return Settings(data_dir=tmp_path, upkeep_seconds=3600)


def examine(settings: Settings, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    doctor.doctor(settings, as_json=True)
    found = json.loads(capsys.readouterr().out)["data"]
    return {one["name"]: (one["state"], one["detail"]) for one in found}


def test_it_makes_nothing_of_what_it_looks_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data_dir=tmp_path / "not" / "yet")
    found = examine(settings, capsys)
    assert list(tmp_path.iterdir()) == []
    assert found["data dir"] == ("ok", f"{settings.data_dir}, which the first start makes")
    state, detail = found["database"]
    assert state == "error"
    assert "there is no database" in detail
    assert "stillhouse migrate" in detail
    assert found["broker"][1].startswith(str(settings.data_dir / "broker"))


def test_it_shows_the_urls_as_they_were_given_without_their_passwords(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(settings, capsys)["broker"] == ("ok", f"{settings.data_dir}/broker, which the first start makes")
    (settings.data_dir / "broker").mkdir()
    before = sorted(settings.data_dir.rglob("*"))
    found = examine(settings, capsys)
    assert found["broker"] == ("ok", f"{settings.data_dir}/broker")
    assert found["database"] == ("ok", settings.database_url)
    assert sorted(settings.data_dir.rglob("*")) == before
    away = settings.model_copy(update={"broker_url": "redis://:secret@127.0.0.1:1/0"})
    state, detail = examine(away, capsys)["broker"]
    assert state == "error"
    assert "secret" not in detail


def test_it_names_a_file_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    found = examine(Settings(data_dir=tmp_path / "file" / "data"), capsys)
    assert found["data dir"][0] == "error"
    assert "STILLHOUSE_DATA_DIR" in found["data dir"][1]


def test_it_tells_of_unfit_workers_and_jobs_that_nobody_will_take(
    settings: Settings, database: Database, client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "queue" not in examine(settings, capsys)
    submit(client)
    report(database, "unfit", "only 3 MiB free; make room")
    found = examine(settings, capsys)
    assert found["worker"] == ("warning", "w1 takes no jobs: only 3 MiB free; make room")
    assert found["queue"][0] == "warning"
    assert "w1 is unfit" in found["queue"][1]


def test_where_no_worker_is_installed_none_is_missed(
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "_TREE", tmp_path_factory.mktemp("image"))
    found = examine(settings, capsys)
    assert found["worker"] == ("ok", "not installed here; an API needs none")
    assert "torch" not in found
