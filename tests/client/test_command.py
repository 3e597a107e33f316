"""The command, as a shell sees it: documents, sentences, exit statuses."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillhouse.spec.methods import METHODS
from tests.harness import Service, service

SPEC = """\
name: command
dataset: {id: digits}
student:
  layers:
    - {name: flatten}
    - {name: linear}
method: {name: none}
training:
  epochs: 2
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("command") / "data") as started:
        yield started


def command(*arguments: str, data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STILLHOUSE_")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("stillhouse")), *arguments],
        cwd=data_dir.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**clean, "STILLHOUSE_DATA_DIR": str(data_dir), "COLUMNS": "200", **environment},
    )


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def test_a_job_from_the_shell_from_submission_to_download(running: Service, spec: Path, tmp_path: Path) -> None:
    watched = command("submit", str(spec), "--watch", "--json", data_dir=running.data_dir)
    assert watched.returncode == 0, watched.stderr
    job = json.loads(watched.stdout)
    assert job["status"] == "succeeded"
    assert "student-0 epoch 2/2" in watched.stderr
    shown = command("show", job["id"], data_dir=running.data_dir)
    assert "succeeded" in shown.stdout
    assert "student" in shown.stdout
    listed = json.loads(command("jobs", "--json", data_dir=running.data_dir).stdout)
    assert [row["id"] for row in listed["data"]] == [job["id"]]
    got = command("download", job["id"], "-o", str(tmp_path / "out"), data_dir=running.data_dir)
    assert got.returncode == 0, got.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {entry["name"] for entry in manifest["files"]} == {
        "student.safetensors",
        "student.json",
        "report.html",
        "report.json",
        "metrics.csv",
        "job.yaml",
        "environment.json",
    }
    assert command("watch", job["id"], data_dir=running.data_dir).returncode == 0
    assert command("cancel", job["id"], data_dir=running.data_dir).returncode == 6
    assert command("logs", job["id"], data_dir=running.data_dir).returncode == 0
    assert command("delete", job["id"], data_dir=running.data_dir).returncode == 0
    assert command("show", job["id"], data_dir=running.data_dir).returncode == 4


def test_a_cancelled_job_has_its_own_exit_status(running: Service, spec: Path) -> None:
    spec.write_text(SPEC.replace("epochs: 2", "epochs: 5000"))
    job_id = json.loads(command("submit", str(spec), "--json", data_dir=running.data_dir).stdout)["id"]
    assert command("cancel", job_id, data_dir=running.data_dir).returncode == 0
    assert command("watch", job_id, data_dir=running.data_dir).returncode == 3
    for options, status, why in (([], 6, "is cancelled and has no files"), (["-o", str(spec)], 2, "name a folder")):
        refused = command("download", job_id, *options, data_dir=running.data_dir)
        assert (refused.returncode, why in refused.stderr) == (status, True), refused.stderr


def test_a_failed_job_has_its_own_exit_status(running: Service, spec: Path) -> None:
    wild = "  epochs: 2\n  optimizer: {name: sgd, lr: 100, momentum: 0.99}\n  batch_size: 2\n"
    spec.write_text(
        SPEC.replace("  epochs: 2\n", wild).replace(
            "{name: flatten}", "{name: flatten}\n    - {name: linear, features: 64}\n    - {name: linear, features: 64}"
        )
    )
    failed = command("submit", str(spec), "--watch", "--json", data_dir=running.data_dir)
    job = json.loads(failed.stdout)
    assert (failed.returncode, job["status"], job["status_reason"]) == (1, "failed", "nan_loss")


def test_a_dry_run_shows_what_it_would_take(running: Service, spec: Path) -> None:
    answer = command("submit", str(spec), "--dry-run", "--json", data_dir=running.data_dir)
    assert json.loads(answer.stdout)["estimate"]["student_parameters"] == 650
    assert answer.returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("epochs: 2", "epochs: -2"), ["spec.yaml:9: /training/epochs: Input should be greater"]),
        (("{name: linear}", "{name: lineal}"), ["spec.yaml:6: /student/layers/1: "]),
        (
            ("dataset: {id: digits}", "dataset: {id: digits}\nspeed: 11"),
            ["spec.yaml:3: /speed: there is no such field"],
        ),
        (("name: command", "name: [unclosed"), ["is not YAML"]),
        ((SPEC, "just text"), ["must hold a job spec"]),
    ],
)
def test_a_bad_spec_names_file_line_and_field(
    tmp_path: Path, spec: Path, change: tuple[str, str], words: list[str]
) -> None:
    spec.write_text(SPEC.replace(*change))
    found = command("submit", str(spec), data_dir=tmp_path)
    assert found.returncode == 2
    assert all(word in found.stderr for word in words), found.stderr
    assert "Traceback" not in found.stderr


def test_what_only_the_server_can_see_is_said_by_pointer(running: Service, spec: Path) -> None:
    spec.write_text(SPEC.replace("{id: digits}", "{id: digit}"))
    found = command("submit", str(spec), data_dir=running.data_dir)
    assert found.returncode == 2
    assert "/dataset/id: no data set is called 'digit'; did you mean digits?" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "words"),
    [
        (["submit", "nothing.yaml"], {}, 2, "cannot read nothing.yaml"),
        (["jobs"], {}, 5, "stillhouse serve"),
        (["jobs"], {"STILLHOUSE_URL": "http://127.0.0.1:1", "STILLHOUSE_API_KEY": "sk_x"}, 5, "no answer from"),
        (["frobnicate"], {}, 2, "No such command"),
    ],
)
def test_no_error_is_a_traceback(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], status: int, words: str
) -> None:
    found = command(*arguments, data_dir=tmp_path / "empty", **environment)
    assert found.returncode == status, found.stderr
    assert words in found.stderr
    assert "Traceback" not in found.stderr


def test_a_wrong_key_is_refused(running: Service) -> None:
    found = command("jobs", data_dir=running.data_dir, STILLHOUSE_API_KEY="sk_wrong")
    assert (found.returncode, "not known" in found.stderr) == (6, True)


def test_keys_are_made_and_revoked(running: Service) -> None:
    made = json.loads(command("keys", "create", "--name", "ci", "--json", data_dir=running.data_dir).stdout)
    assert set(made) == {"id", "key", "name", "project", "scopes"}
    assert command("jobs", data_dir=running.data_dir, STILLHOUSE_API_KEY=made["key"]).returncode == 0
    assert command("keys", "revoke", made["id"], data_dir=running.data_dir).returncode == 0
    assert command("jobs", data_dir=running.data_dir, STILLHOUSE_API_KEY=made["key"]).returncode == 6
    own = json.loads(command("keys", "list", "--json", data_dir=running.data_dir).stdout)["data"][-1]
    refused = command("keys", "revoke", own["id"], data_dir=running.data_dir)
    assert (refused.returncode, "cannot revoke itself" in refused.stderr) == (6, True)


def test_an_operator_makes_a_project_and_limits_it(running: Service) -> None:
    def asked(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return command(*arguments, "--json", data_dir=running.data_dir, **environment)

    made = json.loads(asked("keys", "create", "--project", "research", "--scopes", "jobs:read,admin").stdout)
    assert made["project"] == "research"
    assert [row["id"] for row in json.loads(asked("keys", "list", "--project", "research").stdout)["data"]] == [
        made["id"]
    ]
    limited = json.loads(asked("projects", "limit", "research", "--running", "2", "--storage-bytes", "1000").stdout)
    assert limited["limits"] == {"running": 2, "waiting": None, "storage_bytes": 1000}
    named = {row["name"]: row["in_force"]["running"] for row in json.loads(asked("projects", "list").stdout)["data"]}
    assert named == {"default": None, "research": 2}
    own = json.loads(asked("projects", "list", STILLHOUSE_API_KEY=made["key"]).stdout)["data"]
    assert [row["name"] for row in own] == ["research"]
    for arguments, status, why in (
        (("projects", "limit", "nobody", "--running", "1"), 4, "no project 'nobody' is in sight"),
        (("projects", "limit", "research", "--running", "-1"), 2, "a whole number from 0 on, or none"),
    ):
        refused = asked(*arguments)
        assert (refused.returncode, why in refused.stderr.replace("\n", " ")) == (status, True), refused.stderr
    for arguments, status, why in (
        (("keys", "list", "--project", "nobody"), 4, "no project 'nobody'"),
        (("keys", "create", "--project", ""), 2, "at least 1 character"),
    ):
        refused = asked(*arguments)
        assert (refused.returncode, why in refused.stderr) == (status, True), refused.stderr
    for named in ("keys", "projects"):
        listed = command(named, "list", data_dir=running.data_dir, COLUMNS="80").stdout
        assert len(re.findall(rf"\b{named[:3]}_[a-z0-9]{{26}}\b", listed.replace("prj_", "pro_"))) >= 2, listed
    refused = asked("keys", "create", "--project", "default", STILLHOUSE_API_KEY=made["key"])
    assert (refused.returncode != 0, "operator" in refused.stderr) == (True, True), refused.stderr


def test_the_first_keys_are_kept_by_way_of_the_database(tmp_path: Path) -> None:
    """Before there is a server: made, listed, revoked."""

    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        url = f"sqlite:///{tmp_path / 'fleet.db'}"
        return command("keys", *arguments, "--json", data_dir=tmp_path, STILLHOUSE_DATABASE_URL=url)

    asked = ("--name", "first", "--project", "vision", "--scopes", "admin")
    key, other = (json.loads(keys("create", *asked).stdout) for _ in range(2))
    assert (key["name"], key["project"], key["scopes"]) == ("first", "vision", ["admin"])
    assert json.loads(keys("revoke", key["id"]).stdout)["revoked"] is True
    revoked = {row["id"]: bool(row["revoked_at"]) for row in json.loads(keys("list").stdout)["data"]}
    assert revoked == {key["id"]: True, other["id"]: False}
    for refused, status, why in (
        (keys("revoke", "key_unknown"), 4, "no key"),
        (keys("revoke", other["id"]), 6, "last admin key"),
        (keys("list", "--project", "nobody"), 4, "no project 'nobody'"),
        (keys("create", "--project", ""), 2, "--project"),
        (keys("list", "--frob"), 2, "Usage: stillhouse keys list"),
    ):
        assert refused.returncode == status, refused.stderr
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr


def test_the_catalog_is_shown(running: Service) -> None:
    assert "resnet20" in command("catalog", data_dir=running.data_dir).stdout
    methods = json.loads(command("catalog", "methods", "--json", data_dir=running.data_dir).stdout)
    assert [entry["name"] for entry in methods["data"]] == list(METHODS)
    assert methods["data"][0]["schema"]["properties"]["temperature"]["exclusiveMinimum"] == 0


def test_the_doctor_says_what_is_well(running: Service) -> None:
    found = command("doctor", "--json", data_dir=running.data_dir)
    states = {item["name"]: item["state"] for item in json.loads(found.stdout)["data"]}
    assert (found.returncode, states["database"], states["broker"], states["torch"]) == (0, "ok", "ok", "ok")


def test_the_worker_is_in_the_register(running: Service) -> None:
    (row,) = json.loads(command("workers", "--json", data_dir=running.data_dir).stdout)["data"]
    assert (row["state"], row["live"], row["queues"]) == ("ready", True, ["default"])
    assert row["pid"] == running.pids()["worker"]
    shown = command("workers", data_dir=running.data_dir).stdout
    assert row["name"] in shown
    assert "ready" in shown


def test_a_second_serve_on_the_same_directory_is_refused(running: Service) -> None:
    found = command("serve", "--port", "0", "--data-dir", str(running.data_dir), data_dir=running.data_dir)
    assert found.returncode == 1
    assert "is in use by another serve (process" in found.stderr
    assert "--data-dir" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = command("serve", "--port", port, "--data-dir", str(tmp_path), data_dir=tmp_path)
    assert found.returncode == 1
    assert "Address already in use; choose another with --port" in found.stderr
    found = command("serve", "--host", "192.0.2.1", "--port", port, "--data-dir", str(tmp_path), data_dir=tmp_path)
    assert (found.returncode, "choose another with --host" in found.stderr) == (1, True), found.stderr


def test_a_data_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = command("serve", "--port", "0", "--data-dir", str(tmp_path / "file" / "data"), data_dir=tmp_path)
    assert found.returncode == 1
    assert "cannot write to the data directory" in found.stderr
    assert "Traceback" not in found.stderr
