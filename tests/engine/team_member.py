"""``python -m tests.engine.team_member RANK SIZE FOLDER``: one of the processes of ``test_team``.

Every case is a function that makes a run for a team; trained in turn, with what came of each kept in ``FOLDER``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.engine.conftest import CONV, FP32, LAYERS, network, teacher
from worker.engine import checkpoint
from worker.engine.data import Dataset, ImageSet
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.split import split_dataset
from worker.engine.distill import distill
from worker.engine.ensemble import Ensemble
from worker.engine.errors import EngineError, RankLost
from worker.engine.events import Progress, StepFinished
from worker.engine.method import Batch, Method, Outputs
from worker.engine.methods import METHODS
from worker.engine.methods.combination import Combination
from worker.engine.optim import Constant
from worker.engine.precision import Precision
from worker.engine.run import Recipe, Run
from worker.engine.teacher import LiveTeacher, TeacherSource
from worker.engine.team import Team

SGD = {"name": "sgd", "lr": 0.005, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
BATCH, SAMPLES, EPOCHS = 33, 101, 2
"""Batches of 17 and 16 for two ranks, and a last one of two samples, too small to be shared."""
STOP = 5
"""Steps after which a case is stopped and gone on with: in the second epoch."""
PLAIN = [
    {**CONV, "channels": 6},
    {"name": "relu"},
    {**CONV, "channels": 8, "stride": 2},
    {"name": "relu"},
    {"name": "globalpool"},
    {"name": "linear", "features": None},
]
HIDDEN = [{**CONV, "channels": 6}, {"name": "relu"}, {**CONV, "channels": 12, "stride": 2}, {"name": "relu"}]
NORMED = [{**CONV, "channels": 6}, {"name": "batchnorm"}, *LAYERS[2:3], *LAYERS[4:]]
DROPPING = [*LAYERS[:1], *LAYERS[2:]]


def digits() -> Dataset:
    whole = BUILTIN["digits"](None, Path())
    few = replace(whole, train=whole.train.take(torch.arange(150)))
    dataset = split_dataset(few, validation=0.15, seed=3)
    return replace(dataset, train=dataset.train.take(torch.arange(SAMPLES)))


def made(
    team: Team | None,
    *,
    method: Method,
    layers: list[dict[str, Any]] = PLAIN,
    taught_by: TeacherSource | None = None,
    optimizer: dict[str, Any] = SGD,
    precision: Precision = FP32,
    train: ImageSet | None = None,
) -> Run:
    data = digits()
    recipe = Recipe(
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=optimizer,
        schedule=Constant(),
        augmentation="crop-flip",
        precision=precision,
        seed=7,
        log_every=1,
    )
    return Run(
        student=network(layers=layers),
        method=method,
        teacher=(taught_by or teacher(data, hidden=HIDDEN)) if method.needs_teacher else None,
        train=train or data.train,
        validation=data.validation,
        recipe=recipe,
        team=team,
    )


def _several() -> TeacherSource:
    data = digits()
    one, other = (teacher(data, hidden=hidden).network for hidden in (HIDDEN, []))
    return LiveTeacher(Ensemble([(3.0, one), (1.0, other)]), precision=FP32)  # type: ignore[list-item]


def _of(name: str, **fields: Any) -> Callable[[Team | None], Run]:
    return lambda team: made(team, method=METHODS[name](**fields))


def _without_batchnorm(name: str, **fields: Any) -> Callable[[Team | None], Run]:
    """A method whose own layers count within a batch, with layers that do not in their place."""

    def build(team: Team | None) -> Run:
        with patch.object(nn, "BatchNorm2d", lambda channels: nn.GroupNorm(1, channels)):
            pooling = teacher(digits(), hidden=[*HIDDEN, {"name": "globalpool"}]) if name == "simkd" else None
            return made(team, method=METHODS[name](**fields), taught_by=pooling)

    return build


EXACT: dict[str, Callable[[Team | None], Run]] = {
    **{name: _of(name) for name in ("none", "kd", "nkd", "dist", "mlkd", "at", "sp", "rkd", "pkt", "vid", "patient")},
    "two views": _of("none", views=2),
    "dkd": _of("dkd", warmup_epochs=1),
    "crd": _of("crd", negatives=40),
    **{name: _without_batchnorm(name) for name in ("fitnet", "ofa", "simkd")},
    "reviewkd": _without_batchnorm("reviewkd", warmup_epochs=1),
    "combination": lambda team: made(
        team, method=Combination([("kd", 1.0, METHODS["kd"]()), ("crd", 0.5, METHODS["crd"](negatives=40))])
    ),
    "several teachers": lambda team: made(team, method=METHODS["dist"](), taught_by=_several()),
}
"""Without batch norm and without dropout: a team is one process, to rounding."""


class Dead(Method):
    """Has a term that teaches nothing."""

    needs_teacher = False

    def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return {**METHODS["none"]()(student, None, batch), "dead": (student.logits * 0).sum()}


ROUGH: dict[str, Callable[[Team | None], Run]] = {
    "bf16": lambda team: made(team, method=METHODS["sp"](), precision=Precision("bf16", scales_gradients=False)),
    "batch norm": lambda team: made(team, method=METHODS["kd"](), layers=NORMED),
    "dropout": lambda team: made(team, method=METHODS["crd"](negatives=40), layers=DROPPING),
}
FAILING: dict[str, Callable[[Team | None], Run]] = {
    "nan": lambda team: made(team, method=METHODS["none"](), optimizer={**SGD, "lr": 1e38}),
    "dead": lambda team: made(team, method=Dead()),
}


def losses(run: Run) -> Iterator[tuple[str, float]]:
    """Train to the end; each step's terms and loss."""
    for event in distill(run):
        if isinstance(event, Progress):
            yield from event.metrics.items()


def outcome(run: Run) -> dict[str, Any]:
    return {"losses": list(losses(run)), "weights": run.student.body.state_dict(), "history": run.history}


def until(run: Run, steps: int) -> Run:
    for _ in zip(range(steps), (event for event in distill(run) if isinstance(event, StepFinished)), strict=False):
        pass
    return run


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    team = Team.join(rank=rank, size=size, device=torch.device("cpu"), meeting=folder / "meeting")
    found: dict[str, Any] = {name: outcome(build(team)) for name, build in {**EXACT, **ROUGH}.items()}
    found["in a process of its own"] = outcome(EXACT["combination"](None))
    for name, build in FAILING.items():
        try:
            outcome(build(team))
        except EngineError as error:
            found[name] = type(error).__name__
    for name in ("crd", "batch norm"):
        build = {**EXACT, **ROUGH}[name]
        stopped = until(build(team), STOP)
        if rank == 0:
            checkpoint.save(folder / "stopped.pt", stopped.state_dict())
            checkpoint.save(folder / f"{name}.pt", stopped.state_dict())
        dist.barrier()
        resumed = build(team)
        resumed.load_state_dict(checkpoint.load(folder / "stopped.pt"))
        found[f"{name}, resumed"] = outcome(resumed)
        dist.barrier()
    begun_alone = EXACT["crd"](team)
    begun_alone.load_state_dict(checkpoint.load(folder / "alone.pt"))
    found["crd, begun alone"] = outcome(begun_alone)
    body = network(rank).body
    team.agree(body)
    found["agreed"] = body.state_dict()
    torch.save(found, folder / f"{rank}.pt")
    lose(team, folder)


def lose(team: Team, folder: Path) -> None:
    """The last rank dies in mid-training; the others must not wait for it."""
    run = EXACT["kd"](team)
    if team.rank == team.size - 1:
        until(run, 3)
        os._exit(0)
    try:
        outcome(run)
    except RankLost as error:
        (folder / "lost").write_text(str(error))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
