"""The fast way of training against a plain loop, step by step: the same loss and the same step, to the precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.engine.conftest import CONV, FP32, network, run
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.events import StepFinished
from worker.engine.methods import METHODS
from worker.engine.network import Network
from worker.engine.precision import Precision
from worker.engine.teacher import with_table

SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
BATCH = 32
BLOCK = [{**CONV, "channels": 8}, {"name": "batchnorm"}, {"name": "relu"}]
STACK = [*BLOCK, *BLOCK, {"name": "globalpool"}, {"name": "linear", "features": None}]
BF16 = Precision("bf16", scales_gradients=False)
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def kd(ours: Tensor, theirs: Tensor, labels: Tensor) -> Tensor:
    taught = F.softmax(theirs / 4, dim=1)
    soft = (taught * (taught.log() - F.log_softmax(ours / 4, dim=1))).sum(dim=1).mean() * 16
    return 0.1 * F.cross_entropy(ours, labels) + 0.9 * soft


def dkd(ours: Tensor, theirs: Tensor, labels: Tensor) -> Tensor:
    """Of the paper's equation 7 with its weights 1 and 8, after the warm-up."""
    own = F.one_hot(labels, ours.shape[1]).bool()
    one, other = (F.softmax(logits / 4, dim=1) for logits in (ours, theirs))
    target = [torch.stack([each[own], 1 - each[own]], dim=1) for each in (one, other)]
    rest = [(each / (1 - each[own])[:, None])[~own].view(len(labels), -1) for each in (one, other)]
    divergences = [(taught * (taught / said).log()).sum(dim=1).mean() * 16 for said, taught in (target, rest)]
    return F.cross_entropy(ours, labels) + divergences[0] + 8 * divergences[1]


METHOD: dict[str, tuple[Loss, dict[str, int]]] = {"kd": (kd, {}), "dkd": (dkd, {"warmup_epochs": 0})}


@torch.no_grad()
def sgd(parameters: list[nn.Parameter], state: dict[int, dict[str, Tensor]]) -> None:
    """A step with the momenta of ``state``."""
    for place, parameter in enumerate(parameters):
        assert parameter.grad is not None
        direction = parameter.grad + 5e-4 * parameter
        if place in state:
            direction += 0.9 * state[place]["momentum_buffer"]
        parameter.sub_(0.05 * direction)


def informed(digits: Dataset) -> Network:
    """A teacher of the student's kind that knows the digits."""
    training = run(digits, student=network(3, layers=STACK), epochs=6, optimizer={**SGD, "lr": 0.1})
    for _ in distill(training):
        pass
    return training.student


def plain(network: Network) -> nn.Module:
    return copy.deepcopy(network.body).to(memory_format=torch.contiguous_format)


@pytest.mark.parametrize(("precision", "of_loss", "of_step"), [(FP32, 1e-5, 1e-4), (BF16, 0.02, 0.1)])
@pytest.mark.parametrize("method", METHOD)
def test_each_step_is_that_of_a_plain_loop(
    digits: Dataset, tmp_path: Path, method: str, precision: Precision, of_loss: float, of_step: float
) -> None:
    """A view table, a folded teacher, channels last, fused SGD; and plain fp32 with a teacher's pass in each step."""
    knowing = informed(digits)
    loss_of, fields = METHOD[method]
    source = with_table(knowing, digits.train, tmp_path / "table", augmentation="crop", classes=10, precision=precision)
    fast = run(
        digits,
        method=METHODS[method](**fields),
        taught_by=source,
        student=network(2, layers=STACK),
        precision=precision,
        optimizer=SGD,
    )
    teacher, student = plain(knowing).eval(), plain(fast.student).train()
    before, sums, steps = copy.deepcopy(fast.state_dict()), torch.zeros(1), 0
    for event in distill(fast):
        if not isinstance(event, StepFinished):
            continue
        rows = fast.views.of_epoch(seed=7, epoch=event.epoch)[(event.step - 1) * BATCH : event.step * BATCH]
        images = ((fast.views.show(rows) - 0.3) / 0.4).contiguous()
        labels = digits.train.labels[fast.views.samples(rows)]
        student.load_state_dict(before["student"])
        with torch.no_grad():
            theirs = teacher(images)
        loss = loss_of(student(images), theirs, labels)
        student.zero_grad()
        torch.autograd.backward(loss)
        sgd(list(student.parameters()), before["optimizer"]["state"])
        since = fast.sums - (sums if event.step > 1 else 0)
        assert float(since[-3] / since[-1]) == pytest.approx(float(loss.detach()), rel=of_loss)
        ours, theirs = (
            torch.cat([(after[name] - before["student"][name]).flatten() for name, _ in student.named_parameters()])
            for after in (fast.student.body.state_dict(), student.state_dict())
        )
        assert float((ours - theirs).norm() / theirs.norm()) < of_step
        before, sums, steps = copy.deepcopy(fast.state_dict()), fast.sums.clone(), steps + 1
    assert steps == 2 * fast.steps
    assert source.table is not None
    assert source.table.written > 0
