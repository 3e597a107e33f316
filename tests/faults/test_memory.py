"""The memory of a training child: held to by the kernel, and told apart from a lost worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.doctor import _asked
from tests.harness import Service, service
from worker import cgroup
from worker.cgroup import Unavailable, limited, memory_limit

LIMIT = 640 * 2**20
SPEC: dict[str, Any] = {
    "dataset": {"id": "digits"},
    "student": {"layers": [{"name": "flatten"}, {"name": "linear"}]},
    "method": {"name": "none"},
    "training": {"epochs": 1},
}


def unavailable() -> str:
    """Why this system keeps no limit; empty where it does."""
    try:
        with limited(LIMIT):
            return ""
    except Unavailable as error:
        return str(error)


kept = pytest.mark.skipif(bool(unavailable()), reason=f"no memory cgroup can be made here: {unavailable()}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("memory") / "data"
    with service(folder, STILLHOUSE_TRAINING_MEMORY_BYTES=str(LIMIT)) as started:
        yield started


@kept
def test_a_training_that_needs_more_than_its_limit_ends_as_out_of_memory(running: Service) -> None:
    """Once, and not as a lost worker that is tried again; the next job has its memory."""
    wide = {"name": "linear", "features": 8192}
    large = {**SPEC, "student": {"layers": [{"name": "flatten"}, wide, {"name": "relu"}, wide, {"name": "linear"}]}}
    job = running.wait(running.submit(large))
    assert (job["status"], job["status_reason"], job["attempt"]) == ("failed", "out_of_memory", 1)
    assert f"{LIMIT:,} bytes of memory that STILLHOUSE_TRAINING_MEMORY_BYTES allows" in job["status_detail"]
    small = running.wait(running.submit(SPEC))
    assert small["status"] == "succeeded", small["status_detail"]


@kept
def test_a_group_counts_what_is_killed_and_what_was_needed() -> None:
    with limited(64 * 2**20) as group:
        program = "import sys; sys.stdin.read(); print(len(bytearray(int(sys.argv[1]))))"
        for size, status in ((2**20, 0), (2**28, -9)):
            command = [sys.executable, "-c", program, str(size)]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            group.enter(child.pid)
            child.communicate()
            assert child.returncode == status
            assert group.killed() == (status == -9)
        group.enter(child.pid)  # it is gone, which is no error
        peak = group.peak()
        assert peak is None or 32 * 2**20 < peak <= 64 * 2**20
    assert not group.folder.exists()


@kept
def test_the_groups_of_dead_workers_are_swept_away() -> None:
    with limited(LIMIT) as group:
        stale = group.folder.with_name("stillhouse-999999999-1")
        stale.mkdir()
        with limited(LIMIT):
            assert not stale.exists()
            assert group.folder.exists()


def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, *folders: str) -> Path:
    """A tree as the kernel shows it, of plain files."""
    root = tmp_path / "cgroup"
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "cgroup.subtree_control").write_text("cpu")
    (tmp_path / "own").write_text(f"{line}\n")
    monkeypatch.setattr(cgroup, "ROOT", root)
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")
    return root


def test_in_version_2_memory_is_handed_on_by_the_workers_own_group_or_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses it to a group that has processes, as the worker's own has: then the parent's is taken."""
    root = made(monkeypatch, tmp_path, "0::/service/worker", "service", "service/worker")
    with limited(LIMIT) as group:
        assert group.folder.parent == root / "service" / "worker"
        assert (group.folder / "memory.max").read_text() == str(LIMIT)
        assert (group.folder / "memory.swap.max").read_text() == "0"
        (group.folder / "memory.events").write_text("oom 3\noom_kill 0\n")
        assert not group.killed()
        (group.folder / "memory.events").write_text("oom 3\noom_kill 1\n")
        assert group.killed()
        assert group.peak() is None
    (root / "service" / "worker" / "cgroup.subtree_control").unlink()
    (root / "service" / "worker" / "cgroup.subtree_control").mkdir()  # cannot be written, as with EBUSY
    with limited(LIMIT) as group:
        assert group.folder.parent == root / "service"


def test_where_no_limit_can_be_had_it_is_said_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(monkeypatch, tmp_path, "0::/")
    said: list[str] = []
    with memory_limit(LIMIT, warn=said.append) as memory:
        memory.enter(1)
        assert memory.exceeded() is None
    (sentence,) = said
    assert f"the limit of {LIMIT:,} bytes of memory is not kept" in sentence
    assert "DelegateSubgroup" in sentence
    with memory_limit(None, warn=said.append) as memory:
        assert memory.group is None
    assert len(said) == 1


def test_doctor_asks_a_process_of_its_own_whether_a_limit_can_be_had() -> None:
    found = _asked("memory limit", "worker.cgroup")
    assert found.state == ("warning" if unavailable() else "ok")
    assert ("missing: " in found.detail) == bool(unavailable())
