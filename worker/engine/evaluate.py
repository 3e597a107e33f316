"""What a network is worth: accuracy in fp32, size, speed."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from worker.engine.blackbox import BlackBox
from worker.engine.data import ImageSet
from worker.engine.ensemble import Ensemble
from worker.engine.network import Network

_BATCH = 512
_WARM_UP, _TIMED = 5, 30
_WORTH_TRYING = 5 * 10**8
"""Operations of a step's forward pass. resnet8 on 32x32 in batches of 64 has 1.6e9, lenet5 on 28x28 0.05e9."""
_TRIAL_FLOPS = 2 * 10**9


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
def evaluate(network: Network | Ensemble, images: ImageSet) -> Evaluation:
    """In fp32 and evaluation mode, whatever the training does; the network's mode is put back."""
    was_training = network.training
    network.eval()
    batches = zip(torch.split(images.images, _BATCH), torch.split(images.labels, _BATCH), strict=True)
    predictions, losses, among_five = [], [], []
    for batch, labels in batches:
        logits = network(
            batch.to(labels.device).float().div_(255).contiguous(memory_format=torch.channels_last)
        ).logits.float()
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


def trial_step(network: Network, *, batch: int) -> Callable[[], object] | None:
    """A forward and backward pass on a few made images, to try a precision on; None where a step of ``batch`` images
    has so little to do that the precision does not matter.
    """
    flops = count_flops(network.body, network.preprocessing.shape)
    if flops * batch < _WORTH_TRYING:
        return None
    images = torch.zeros(max(2, min(batch, _TRIAL_FLOPS // flops)), *network.preprocessing.shape)
    images = images.contiguous(memory_format=torch.channels_last)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return lambda: torch.autograd.grad(network(images).logits.float().sum(), weights, allow_unused=True)


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
