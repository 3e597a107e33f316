"""What a network is worth: accuracy in fp32, size, speed."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from worker.engine.blackbox import BlackBox
from worker.engine.data import ImageSet
from worker.engine.ensemble import Ensemble
from worker.engine.network import Network

_BATCH, _VALUES, _HOST_VALUES = 512, 2**24, 2**21
"""Images at a time, and numbers they have; on a host fewer, since a network's maps are a multiple of them."""
_WARM_UP, _TIMED = 5, 30
_WORTH_BF16 = 5 * 10**8
"""Operations of a step's forward pass. resnet8 on 32x32 in batches of 64 has 1.6e9, lenet5 on 28x28 0.05e9."""


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
def evaluate(network: Network | Ensemble, images: ImageSet, *, alive: Callable[[], None] | None = None) -> Evaluation:
    """In fp32 and evaluation mode, whatever the training does; the network's mode is put back.

    ``alive`` is called after each batch.
    """
    was_training = network.training
    network.eval()
    values = _HOST_VALUES if images.labels.device.type == "cpu" else _VALUES
    answers = (
        network(batch.float().div_(255).contiguous(memory_format=torch.channels_last)).logits.float()
        for batch in images.in_order(images_at_once(network, values=values))
    )
    found = judge(answers, images.labels, alive=alive)
    network.train(was_training)
    return found


def judge(answers: Iterable[Tensor], labels: Tensor, *, alive: Callable[[], None] | None = None) -> Evaluation:
    """Logits [B, classes] in batches, on all of ``labels``; ``alive`` is called after each.

    What is kept has its place from the start: small results between the batches' large tensors would split the heap,
    and the memory of an evaluation would grow with its images.
    """
    named, among_five = torch.empty_like(labels), torch.empty_like(labels, dtype=torch.bool)
    losses = torch.empty_like(labels, dtype=torch.float32)
    at = 0
    for logits in answers:
        part = slice(at, at + len(logits))
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        named[part] = best[:, 0]
        among_five[part] = (best == labels[part, None]).any(dim=1)
        losses[part] = F.cross_entropy(logits, labels[part], reduction="none")
        at += len(logits)
        if alive is not None:
            alive()
    return Evaluation(
        top1=float((named == labels).double().mean()),
        top5=float(among_five.double().mean()),
        loss=float(losses.double().mean()),
        predictions=named,
    )


def images_at_once(network: Network | Ensemble, *, values: int = _VALUES) -> int:
    """So many that they are at most ``values`` numbers as the network takes them, so that large ones fit, too."""
    members = network.members if isinstance(network, Ensemble) else [network]
    largest = max(prod(member.input_shape) for member in members if isinstance(member, Network))
    return max(1, min(_BATCH, values // largest))


@dataclass(frozen=True)
class Footprint:
    """What a network costs."""

    parameters: int
    flops: int | None
    """For one image; a multiply-add counts as two. None of a black box."""
    latency_ms: float
    """Median of one image at a time, on the device the network is on."""


def measure(network: Network) -> Footprint:
    """Count on the meta device, time on the network's own."""
    body = network.body
    if isinstance(body, BlackBox):
        return Footprint(parameters=body.count, flops=None, latency_ms=_latency(network))
    return Footprint(
        parameters=sum(parameter.numel() for parameter in body.parameters()),
        flops=count_flops(body, network.preprocessing.shape),
        latency_ms=_latency(network),
    )


def in_all(shapes: Sequence[Footprint]) -> Footprint:
    """What networks cost together; no number of operations where one of them has none."""
    flops = [shape.flops for shape in shapes if shape.flops is not None]
    return Footprint(
        parameters=sum(shape.parameters for shape in shapes),
        flops=sum(flops) if len(flops) == len(shapes) else None,
        latency_ms=sum(shape.latency_ms for shape in shapes),
    )


def suits_bf16(network: Network, *, batch: int) -> bool:
    """Whether bf16 is quicker to train ``network`` with on a CPU that multiplies it: by a rule and not by a
    measurement, since equal jobs are to end with equal bytes.

    A step must have something to do, and no convolution may be one by channels: those take twice as long in bf16, and
    others half as long (measured on an EPYC with AVX512-BF16).
    """
    if any(isinstance(module, torch.nn.Conv2d) and module.groups > 1 for module in network.body.modules()):
        return False
    return count_flops(network.body, network.preprocessing.shape) * batch >= _WORTH_BF16


def count_flops(body: torch.nn.Module, shape: tuple[int, int, int]) -> int:
    """Of convolutions and matrix products for one image, by torch's own counter on the meta device."""
    shadow = copy.deepcopy(body).to("meta").requires_grad_(requires_grad=False).eval()
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
