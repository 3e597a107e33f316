"""The arithmetic that several methods share: in fp32 (float64 stays as it is) and, where it is a softmax, in log space.

Logits are [B, C] of any precision. Margins of a thousand stay finite, and so do their gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """At least fp32."""
    return values if values.dtype == torch.float64 else values.float()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """With the labels int64 [B], mean over the batch."""
    return F.cross_entropy(wide(logits), labels)


def divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities [B, C]: sum over classes, mean over the batch."""
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")


def soft_target_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softmaxes at temperature T: sum over classes, mean over the batch.

    T^2 keeps the gradient's size independent of T (Hinton, Vinyals, Dean 2015, section 2).
    """
    log_student = F.log_softmax(wide(student) / temperature, dim=1)
    log_teacher = F.log_softmax(wide(teacher.detach()) / temperature, dim=1)
    return divergence(log_student, log_teacher) * temperature**2


def standardise(logits: Tensor) -> Tensor:
    """Each row to mean 0 and deviation 1 (Sun, Ren, Li, Wang, Cao 2024, algorithm 1; unbiased, as their code)."""
    rows = wide(logits)
    return (rows - rows.mean(dim=1, keepdim=True)) / (rows.std(dim=1, keepdim=True) + 1e-7)


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of all classes but the labels': [B, C - 1]."""
    places = torch.arange(logits.shape[1] - 1, device=logits.device)[None, :]
    return logits.gather(1, places + (places >= labels[:, None]).long())


def unit(vectors: Tensor, *, dim: int) -> Tensor:
    """To length 1 along ``dim``. A vector of zeros stays zero and gets no gradient (a clamp would give it 1e12)."""
    squares = vectors.square().sum(dim=dim, keepdim=True)
    nonzero = squares > 0
    return torch.where(nonzero, vectors * torch.rsqrt(torch.where(nonzero, squares, 1.0)), 0.0)


def pool_to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average [B, C, H, W] down to ``size``; by even windows where they fit: deterministic on GPUs."""
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(maps, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(maps, size)


def same_size(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and width of the two."""
    size = (min(one.shape[-2], other.shape[-2]), min(one.shape[-1], other.shape[-1]))
    return pool_to(one, size), pool_to(other, size)


def warm_up(epoch: int, epochs: int) -> float:
    """Rises evenly to 1 over the first ``epochs`` epochs; ``epoch`` counts from 1."""
    return min(epoch / epochs, 1.0) if epochs else 1.0
