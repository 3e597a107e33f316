"""The seeds of a job side by side in one child: each ends with the bytes it has when it is trained by itself."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.spec import JobSpec
from worker.child import Emitter
from worker.engine import checkpoint
from worker.engine.data import store
from worker.engine.data.builtin import BUILTIN
from worker.phases import phases
from worker.ranks import Member
from worker.sandbox import Protections
from worker.together import groups
from worker.train import Job, Stopped

SPEC = JobSpec.model_validate(
    {
        "dataset": {"id": "digits"},
        "teacher": {"layers": [{"name": "flatten"}, {"name": "linear"}], "train": {"epochs": 2}},
        "student": {
            "layers": [
                {"name": "conv", "channels": 4, "stride": 2},
                {"name": "batchnorm"},
                {"name": "relu"},
                {"name": "dropout", "rate": 0.2},
                {"name": "flatten"},
                {"name": "linear"},
            ]
        },
        "method": {"name": "crd", "negatives": 32},
        "training": {"epochs": 2, "seeds": 3, "batch_size": 128, "augmentation": "crop", "optimizer": {"name": "adam"}},
    }
).complete()


class Spoken(Emitter):
    """Keeps what a job says, and asks it to stop after so many words on its progress."""

    def __init__(self, stop_after: int | None) -> None:
        super().__init__(-1)
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.job: Job | None = None
        self._stop_after = stop_after

    def emit(self, event: str, **data: Any) -> None:
        self.said.append((event, data))
        if self.job is not None and sum(event == "progress" for event, _ in self.said) == self._stop_after:
            self.job.stop.set()


def train(folder: Path, *, together: bool, stop_after: int | None = None) -> Spoken:
    """A job in this process, in ``folder``, from the checkpoints it finds there."""
    for name in ("outbox", "bundle", "checkpoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not (folder / "dataset").exists():
        store.save(folder / "dataset", BUILTIN["digits"](None, folder))
    earlier = {"device": "cpu", "precision": "fp32", "ranks": 1, "threads": 1}
    paced = {"checkpoint_seconds": 3600, "devices": "cpu", "table_limit_bytes": 0}
    plan = {"spec": SPEC.model_dump(mode="json"), "settled": earlier, **paced}
    spoken, here = Spoken(stop_after), Path.cwd()
    os.chdir(folder)
    try:
        spoken.job = job = Job(json.loads(json.dumps(plan)), spoken, Protections(), Member())
        job.together = together
        job.run()
    finally:
        os.chdir(here)
        torch.use_deterministic_algorithms(mode=False)
    return spoken


def resume(folder: Path) -> None:
    """What the supervisor does between two attempts: the newest checkpoint of each phase is staged."""
    for phase in phases(SPEC):
        kept = sorted((folder / "outbox").glob(f"{phase.name}-0*.pt"))
        if kept:
            shutil.copyfile(kept[-1], folder / "checkpoints" / f"{phase.name}.pt")


def results(folder: Path) -> dict[str, bytes]:
    """The weights and histories of every phase, as their last checkpoints hold them, and the served student."""
    found = {"served": (folder / "bundle" / "student.safetensors").read_bytes()}
    for phase in phases(SPEC):
        (last,) = (folder / "outbox").glob(f"{phase.name}-*-complete.pt")
        state = checkpoint.load(last)["run"]
        weights = [value.numpy().tobytes() for value in {**state["student"], **state["best"]["state"]}.values()]
        found[phase.name] = b"".join(weights) + repr(state["history"]).encode()
    return found


@pytest.fixture(scope="module")
def by_itself(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("by-itself")
    spoken = train(folder, together=False)
    assert spoken.said[-1][0] == "result"
    return results(folder)


def test_seeds_that_take_turns_end_with_the_bytes_of_each_by_itself(
    tmp_path: Path, by_itself: dict[str, bytes]
) -> None:
    spoken = train(tmp_path, together=True)
    order = [data["phase"] for event, data in spoken.said if event == "progress"]
    assert order[-4:] != sorted(order[-4:]), "they take turns"
    assert [data["stage"] for event, data in spoken.said if event == "stage"][:3] == ["teacher", "training", "control"]
    assert results(tmp_path) == by_itself


def test_seeds_that_are_stopped_together_go_on_together(tmp_path: Path, by_itself: dict[str, bytes]) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, together=True, stop_after=8)
    stopped = [path.name for path in (tmp_path / "outbox").iterdir() if "complete" not in path.name]
    assert len(stopped) == 3
    resume(tmp_path)
    train(tmp_path, together=True)
    assert results(tmp_path) == by_itself


def test_on_a_gpu_the_seeds_of_a_kind_are_trained_together() -> None:
    planned = phases(SPEC)
    assert [[phase.name for phase in group] for group in groups(planned, together=True)] == [
        ["teacher"],
        ["student-0", "student-1", "student-2"],
        ["control-0", "control-1", "control-2"],
    ]
    assert groups(planned, together=False) == [[phase] for phase in planned]
    many = phases(SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"seeds": 20})}))
    assert max(map(len, groups(many, together=True))) == 8
