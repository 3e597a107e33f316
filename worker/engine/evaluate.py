"""What a network is worth: accuracy in fp32, size, speed, and an honest comparison of two."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from worker.engine.data import ImageSet
from worker.engine.network import Network

_BATCH = 512
_WARM_UP, _TIMED = 5, 30
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Evaluation:
    """A network on a split."""

    top1: float
    """0 to 1."""
    top5: float
    """0 to 1; of fewer than five classes, always 1."""
    loss: float
    """Mean cross-entropy."""
    predictions: Tensor
    """int64 [N]."""


@torch.no_grad()
def evaluate(network: Network, images: ImageSet) -> Evaluation:
    """In fp32 and evaluation mode, whatever the training does; the network's mode is put back."""
    was_training = network.training
    network.eval()
    batches = zip(torch.split(images.images, _BATCH), torch.split(images.labels, _BATCH), strict=True)
    predictions, losses, among_five = [], [], []
    for batch, labels in batches:
        logits = network(batch.float().div_(255).contiguous(memory_format=torch.channels_last)).logits.float()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        predictions.append(best[:, 0])
        among_five.append((best == labels[:, None]).any(dim=1))
        losses.append(F.cross_entropy(logits, labels, reduction="none"))
    network.train(was_training)
    named = torch.cat(predictions)
    return Evaluation(
        top1=float((named == images.labels).double().mean()),
        top5=float(torch.cat(among_five).double().mean()),
        loss=float(torch.cat(losses).double().mean()),
        predictions=named,
    )


@dataclass(frozen=True)
class Footprint:
    """What a network costs."""

    parameters: int
    flops: int
    """For one image; a multiply-add counts as two."""
    latency_ms: float
    """Median of one image at a time, on the device the network is on."""


def measure(network: Network) -> Footprint:
    """Count on the meta device, time on the network's own."""
    return Footprint(
        parameters=sum(parameter.numel() for parameter in network.body.parameters()),
        flops=count_flops(network.body, network.preprocessing.shape),
        latency_ms=_latency(network),
    )


def count_flops(body: torch.nn.Module, shape: tuple[int, int, int]) -> int:
    """Of convolutions and matrix products for one image, by torch's own counter on the meta device."""
    shadow = copy.deepcopy(body).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, *shape, device="meta"))
    return int(counter.get_total_flops())


@torch.no_grad()
def _latency(network: Network) -> float:
    device = network.mean.device
    image = torch.zeros(1, *network.preprocessing.shape, device=device)
    network.eval()
    times = []
    for _ in range(_WARM_UP + _TIMED):
        began = time.perf_counter()
        network(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[_WARM_UP:]) * 1000


def agreement(one: Evaluation, other: Evaluation) -> float:
    """Share of images on which two networks name the same class."""
    return float((one.predictions == other.predictions).double().mean())


@dataclass(frozen=True)
class Verdict:
    """Whether the student is better than its control."""

    outcome: Literal["better", "worse", "no_difference"]
    difference: float
    """Of mean top-1, student less control."""
    p_value: float
    sentence: str


def verdict(students: Sequence[Evaluation], controls: Sequence[Evaluation], labels: Tensor) -> Verdict:
    """McNemar's exact test (1947) on images that one of the pair gets right and the other wrong.

    Pairs share a seed; the discordant images of several seeds are pooled.
    """
    won = lost = 0
    for student, control in zip(students, controls, strict=True):
        right, control_right = student.predictions == labels, control.predictions == labels
        won += int((right & ~control_right).sum())
        lost += int((control_right & ~right).sum())
    difference = statistics.fmean(s.top1 for s in students) - statistics.fmean(c.top1 for c in controls)
    p_value = _two_sided_binomial(won, lost)
    outcome: Literal["better", "worse", "no_difference"] = "no_difference"
    if p_value < _SIGNIFICANT and won != lost:
        outcome = "better" if won > lost else "worse"
    words = {
        "better": "Distillation helped",
        "worse": "Distillation did harm",
        "no_difference": "No clear difference",
    }
    sentence = (
        f"{words[outcome]}: the student is {difference * 100:+.2f} points from its control; it alone is right on {won} "
        f"test images and the control alone on {lost} (exact McNemar test, p = {p_value:.3g})."
    )
    return Verdict(outcome, difference, p_value, sentence)


def _two_sided_binomial(won: int, lost: int) -> float:
    """The chance of a split at least as uneven when both sides are equally likely."""
    total = won + lost
    tail = sum(math.comb(total, k) for k in range(min(won, lost) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**total)))
