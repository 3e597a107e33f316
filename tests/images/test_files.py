"""Dockerfile and docker-compose.yml as their own tools read them: hadolint, and the real Compose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.harness import TREE
from tests.images.building import compose

pytestmark = pytest.mark.slow
FILE = TREE / "docker-compose.yml"
SECRETS = {"POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "s"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compose(tmp_path_factory.mktemp("compose"))


def ask(program: Path, file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), "-f", str(file), "--project-directory", str(TREE), *arguments]
    given = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, capture_output=True, text=True, env=given, check=False)


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([str(program), str(file)], capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing_and_would(tmp_path: Path) -> None:
    found = lint(TREE / "Dockerfile")
    assert (found.returncode, found.stdout) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text((TREE / "Dockerfile").read_text().replace("--no-cache-dir ", ""))
    assert "DL3042" in lint(worse).stdout


@pytest.mark.parametrize(("profile", "worker"), [("gpu", "worker"), ("cpu", "worker-cpu")])
def test_compose_takes_the_file(program: Path, profile: str, worker: str) -> None:
    asked = ask(program, FILE, "--profile", profile, "config", "--format", "json", **SECRETS)
    assert asked.returncode == 0, asked.stderr
    services: dict[str, Any] = json.loads(asked.stdout)["services"]
    assert set(services) == {"postgres", "redis", "objects", "migrate", "api", worker}
    assert services[worker]["build"]["target"] == "worker"
    assert services["api"]["build"]["target"] == "api"
    devices = services[worker].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
    assert (devices is not None) == (profile == "gpu")
    for name in ("postgres", "redis", "objects"):
        assert services[name]["healthcheck"]["test"], name
    known = {f"STILLHOUSE_{name.upper()}" for name in Settings.model_fields}
    for name in ("api", "migrate", worker):
        ours = {key for key in services[name]["environment"] if key.startswith("STILLHOUSE_")}
        assert {"STILLHOUSE_DATABASE_URL", "STILLHOUSE_BROKER_URL", "STILLHOUSE_STORAGE_URL"} <= ours <= known


def test_compose_refuses_a_missing_password_and_a_misspelt_key(program: Path, tmp_path: Path) -> None:
    lacking = ask(program, FILE, "config", "-q", **{**SECRETS, "POSTGRES_PASSWORD": ""})
    assert lacking.returncode != 0
    assert "set POSTGRES_PASSWORD" in lacking.stderr
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(FILE.read_text().replace("depends_on: *migrated", "dependz_on: *migrated"))
    refused = ask(program, misspelt, "config", "-q", **SECRETS)
    assert refused.returncode != 0
    assert "dependz_on" in refused.stderr
