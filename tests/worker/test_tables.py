"""View tables that outlive their job: one project's, whole or not at all, and within their limit."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.config import Settings
from app.tables import Job
from stillhouse.spec import JobSpec
from tests.harness import service
from worker import assembly, tables
from worker.engine import table as engine
from worker.weights import Source

LAYOUT = engine.Layout(rows=20_000, classes=10, dtype=torch.float32)
SPEC: dict[str, Any] = {
    "dataset": {"id": "digits"},
    "teacher": {"layers": [{"name": "flatten"}, {"name": "linear"}], "train": {"epochs": 3}},
    "student": {"layers": [{"name": "flatten"}, {"name": "linear"}]},
    "training": {"epochs": 2, "batch_size": 64, "augmentation": "crop", "optimizer": {"name": "adam", "lr": 0.01}},
    "resources": {"gpus": 0},
}


class Scratch:
    """A child's folder, and what the supervisor said about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        folder.mkdir()

    def stage(self, kept: tables.Kept) -> None:
        tables.stage(kept, self.folder, self.said.append)

    def keep(self, kept: tables.Kept) -> None:
        tables.keep(kept, self.folder, self.said.append)

    @property
    def path(self) -> Path:
        return self.folder / assembly.TABLE

    def fill(self, rows: range) -> None:
        """As the child does."""
        some = torch.tensor(rows)
        self.open().write(some, some[:, None].float().expand(-1, 10))

    def open(self) -> engine.ViewTable:
        return engine.ViewTable(self.path, LAYOUT, {"of": "a test"})

    def rows(self) -> int:
        return int(self.open().there(torch.arange(LAYOUT.rows)).sum())


@pytest.fixture
def scratch(tmp_path: Path) -> Callable[[], Scratch]:
    made = iter(range(100))
    return lambda: Scratch(tmp_path / f"scratch-{next(made)}")


@pytest.fixture
def kept(tmp_path: Path) -> tables.Kept:
    return tables.Kept(tmp_path / "tables", "prj_a", "0" * 64, limit=LAYOUT.bytes)


def test_a_table_goes_from_job_to_job_and_grows(kept: tables.Kept, scratch: Callable[[], Scratch]) -> None:
    first, second, third = scratch(), scratch(), scratch()
    first.stage(kept)
    first.fill(range(2000))
    first.keep(kept)
    second.stage(kept)
    third.stage(kept)  # at the same time
    assert second.rows() == third.rows() == 2000
    second.fill(range(2000, 6000))
    third.fill(range(9000, 10_000))
    second.keep(kept)
    third.keep(kept)  # it has fewer
    fourth = scratch()
    fourth.stage(kept)
    assert fourth.rows() == 6000
    assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name]
    assert not first.said + second.said + third.said + fourth.said


def test_holes_take_no_room(kept: tables.Kept, scratch: Callable[[], Scratch]) -> None:
    first, second = scratch(), scratch()
    first.stage(kept)
    first.fill(range(19_990, 20_000))
    first.keep(kept)
    second.stage(kept)
    for path in (kept.path, second.path):
        assert path.stat().st_size == LAYOUT.bytes
        assert path.stat().st_blocks * 512 < 64 * 2**10
    assert second.rows() == 10


@pytest.mark.parametrize("kind", ["link", "hard link", "name", "size", "header", "kind", "over the limit", "fifo"])
def test_what_a_hostile_child_leaves_is_not_kept(
    kept: tables.Kept, scratch: Callable[[], Scratch], tmp_path: Path, kind: str
) -> None:
    child = scratch()
    child.stage(kept)
    secret = tmp_path / "secret"
    secret.write_bytes(b"sk_secret")
    match kind:
        case "link":
            child.path.symlink_to(secret)
        case "hard link":
            child.path.hardlink_to(secret)
        case "fifo":
            os.mkfifo(child.path)
        case "name":
            child.fill(range(10))
            (child.path.parent / "..x").write_bytes(b"")
        case "size":
            child.fill(range(10))
            os.truncate(child.path, LAYOUT.bytes + 1)
        case "header":
            child.path.write_bytes(os.urandom(engine.HEADER))
        case "kind":
            child.path.write_bytes(b'{"rows": -1, "classes": 10, "dtype": "torch.float32"}'.ljust(engine.HEADER))
        case _:
            child.fill(range(10))
            kept = replace(kept, limit=LAYOUT.bytes - 1)
    child.keep(kept)
    assert len(child.said) == 1
    assert "could not be kept" in child.said[0]
    assert not kept.path.exists()


def test_a_folder_exchanged_for_a_link_is_not_followed(kept: tables.Kept, scratch: Callable[[], Scratch]) -> None:
    child, other = scratch(), scratch()
    other.stage(kept)
    other.fill(range(10))
    (child.folder / "tables").symlink_to(other.folder / "tables")
    child.keep(kept)
    assert "cannot be opened" in child.said[0]
    assert not kept.path.exists()


def test_the_least_recently_used_go_first(kept: tables.Kept, scratch: Callable[[], Scratch]) -> None:
    room = replace(kept, limit=2_200_000)
    others = [replace(room, project_id=f"prj_{index}", key=str(index) * 64) for index in range(3)]
    for age, other in enumerate(others):
        child = scratch()
        child.stage(other)
        child.fill(range(15_000))  # 720 kB
        child.keep(other)
        os.utime(other.path, (1000 + age, 1000 + age))
    scratch().stage(others[0])  # used again
    last = scratch()
    last.stage(kept)
    last.fill(range(15_000))
    last.keep(room)
    assert [other.path.exists() for other in others] == [True, False, True]
    assert kept.path.exists()


def test_a_full_disk_costs_the_table_alone(
    kept: tables.Kept, scratch: Callable[[], Scratch], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = scratch(), scratch()
    first.stage(kept)
    first.fill(range(100))
    first.keep(kept)
    monkeypatch.setattr(os, "sendfile", _full)
    second.stage(kept)
    assert second.said == ["the view table could not be used: [Errno 28] No space left on device"]
    assert not list(second.path.parent.iterdir())
    first.fill(range(100, 5000))
    first.keep(kept)
    assert first.said == ["the view table could not be kept: [Errno 28] No space left on device"]
    assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name]


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_both_sides_mean_the_same_file() -> None:
    assert tables.HEADER == engine.HEADER
    assert Path("tables") / tables.NAME == assembly.TABLE
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        layout = engine.Layout(rows=3, classes=7, dtype=dtype)
        assert tables._size(engine._head(layout, {})) == layout.bytes


class TestSharing:
    """Which jobs share a table."""

    @staticmethod
    def place(
        tmp_path: Path, project: str = "prj_a", *, data: str = "", weights: str = "", **changes: Any
    ) -> tables.Kept | None:
        spec = JobSpec.model_validate({**SPEC, **changes}).complete()
        files = {"train.bin": {"sha256": data}} if data else None
        networks = {"teacher": Source(files=((".safetensors", "k", weights),))} if weights else {}
        networks["student"] = Source(files=((".safetensors", "k", "student"),))
        job = Job(project_id=project, spec=spec.model_dump(mode="json"))
        return tables.kept(Settings(data_dir=tmp_path), job, files, networks)

    def test_another_method_student_or_budget_shares(self, tmp_path: Path) -> None:
        first = self.place(tmp_path)
        assert first is not None
        training = {**SPEC["training"], "epochs": 7, "seeds": 2, "optimizer": {"name": "adam", "lr": 0.5}}
        teacher = {**SPEC["teacher"], "train": first and {"epochs": 3, "optimizer": SPEC["training"]["optimizer"]}}
        assert self.place(tmp_path, method={"name": "dkd"}, student={"architecture": "resnet8"}) == first
        assert self.place(tmp_path, training=training, teacher=teacher) == first

    def test_another_teacher_data_seed_or_project_does_not(self, tmp_path: Path) -> None:
        places = [
            self.place(tmp_path),
            self.place(tmp_path, "prj_b"),
            self.place(tmp_path, data="one"),
            self.place(tmp_path, data="two"),
            self.place(tmp_path, weights="one"),
            self.place(tmp_path, weights="two"),
            self.place(tmp_path, teacher={**SPEC["teacher"], "train": {"epochs": 4}}),
            *(
                self.place(tmp_path, training={**SPEC["training"], **change})
                for change in ({"seed": 1}, {"precision": "bf16"})
            ),
            self.place(tmp_path, training={**SPEC["training"], "augmentation": "none"}),
            self.place(tmp_path, dataset={"id": "digits", "validation": 0.2}),
        ]
        assert len({place.path for place in places if place is not None}) == len(places)

    def test_without_a_teacher_or_without_room_there_is_none(self, tmp_path: Path) -> None:
        assert self.place(tmp_path, teacher=None, method={"name": "none"}) is None
        job = Job(project_id="prj_a", spec=JobSpec.model_validate(SPEC).complete().model_dump(mode="json"))
        assert tables.kept(Settings(data_dir=tmp_path, tables_limit_bytes=0), job, None, {}) is None


@pytest.mark.slow
def test_a_second_job_with_another_method_starts_warm(tmp_path: Path) -> None:
    with service(tmp_path / "data") as running:
        told = []
        for method in ({"name": "kd"}, {"name": "dkd"}):
            job_id = running.submit({**SPEC, "method": method})
            assert running.wait(job_id)["status"] == "succeeded", running.job(job_id)
            log = running.http.get(f"/v1/jobs/{job_id}/logs").text
            found = re.search(r"student-0: (\d+) outputs of the teacher were asked for, (\d+) computed", log)
            assert found is not None, log
            told.append((int(found[1]), int(found[2])))
        (asked, cold), (asked_again, warm) = told
        assert asked == asked_again
        assert 0 < cold <= asked
        assert warm == 0
        assert "256 random rows of the view table were the same when computed again" in log
        assert len(list((tmp_path / "data" / "tables").glob("prj_*/*.table"))) == 1
