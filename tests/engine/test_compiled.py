"""Compiled steps: as repeatable as eager ones, near them, and refused with a reason where they cannot be had."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.engine.conftest import CONV, FP32, LAYERS, run, teacher
from tests.engine.conftest import network as built
from worker.engine import compiled
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.errors import ArchitectureError, HardwareUnsuited
from worker.engine.events import StepFinished
from worker.engine.methods import METHODS
from worker.engine.network import Network
from worker.engine.precision import Precision
from worker.engine.run import Run

SGD = {"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
NORMED = [{**CONV, "channels": 6}, {"name": "batchnorm"}, *LAYERS[2:]]
STACK = [
    {**CONV, "channels": 6},
    {"name": "relu"},
    {**CONV, "channels": 8, "stride": 2},
    {"name": "relu"},
    {"name": "globalpool"},
    {"name": "linear", "features": None},
]
BF16 = Precision("bf16", scales_gradients=False)


def test_a_worker_without_a_compiler_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HardwareUnsuited, match=r"needs a C\+\+ compiler, and this worker finds no g\+\+") as refused:
        compiled.make_ready()
    assert "Install g++" in refused.value.remedy


class Undecided(nn.Module):
    """What it computes depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return self.last(flat if float(flat.sum()) > 0 else -flat)  # type: ignore[no-any-return]


def test_a_network_that_cannot_be_compiled_is_refused_and_not_computed_otherwise() -> None:
    network = Network(Undecided(), built().preprocessing)
    forward = compiled.Compiled(network, torch.device("cpu"))
    with pytest.raises(ArchitectureError, match="the network cannot be compiled: ") as refused:
        forward(torch.rand(4, 1, 8, 8))
    assert refused.value.remedy == "Leave training.compile out."


def made(digits: Dataset, precision: Precision, *, compiled: bool) -> Run:
    return run(
        digits,
        method=METHODS["kd"](),
        taught_by=teacher(digits),
        student=built(2, layers=NORMED),
        optimizer=SGD,
        precision=precision,
        compiled=compiled,
    )


def losses(training: Run) -> list[float]:
    """Of each step of its first epoch."""
    found, before = [], torch.zeros(1)
    for event in distill(training):
        if isinstance(event, StepFinished):
            since = training.sums - before
            found.append(float(since[-3] / since[-1]))
            before = training.sums.clone()
        if len(found) == training.steps:
            break
    return found


def bits(training: Run) -> list[bytes]:
    return [value.contiguous().numpy().tobytes() for value in training.student.body.state_dict().values()]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "near"), [(FP32, 1e-4), (BF16, 0.02)])
def test_compiled_steps_repeat_resume_and_stay_near_eager_ones(
    digits: Dataset, precision: Precision, near: float
) -> None:
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters
    counted.clear()
    undisturbed, again, stopped, resumed = (made(digits, precision, compiled=True) for _ in range(4))
    for training in (undisturbed, again):
        for _ in distill(training):
            pass
    assert bits(again) == bits(undisturbed)
    for event in distill(stopped):
        if isinstance(event, StepFinished) and (event.epoch, event.step) == (2, 3):
            break
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    for _ in distill(resumed):
        pass
    assert bits(resumed) == bits(undisturbed)
    assert counted["stats"]["unique_graphs"] == 2  # of a whole batch and of an epoch's last one, for all four
    eager = losses(made(digits, precision, compiled=False))
    assert losses(made(digits, precision, compiled=True)) == pytest.approx(eager, rel=near)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crd", "fitnet", "reviewkd", "simkd", "patient"])
def test_methods_that_read_features_or_change_the_student_are_near_their_eager_selves(
    digits: Dataset, name: str
) -> None:
    eager, compiled = (
        run(
            digits,
            method=METHODS[name](**({"negatives": 16} if name == "crd" else {})),
            taught_by=teacher(digits, hidden=STACK[:5]),
            student=built(2, layers=STACK),
            optimizer=SGD,
            compiled=compiled,
        )
        for compiled in (False, True)
    )
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-3)
