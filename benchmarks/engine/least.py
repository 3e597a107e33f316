"""The least that a training loop in PyTorch can do: everything is prepared, nothing is measured or kept."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE, WEIGHT_CE, WEIGHT_KD = 4.0, 0.1, 0.9


def epochs(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor, *, batch: int) -> Iterator[float]:
    """Train for ever on normalised float images; after each epoch its steps per second, the first left out."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    student.train()
    teacher.eval()
    while True:
        order = torch.randperm(len(images))
        began = 0.0
        starts = range(0, len(images) - batch + 1, batch)
        for start in starts:
            some = order[start : start + batch]
            inputs, targets = images[some], labels[some]
            with torch.no_grad():
                theirs = F.log_softmax(teacher(inputs) / TEMPERATURE, dim=1)
            logits = student(inputs)
            ours = F.log_softmax(logits / TEMPERATURE, dim=1)
            soft = F.kl_div(ours, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2
            loss = WEIGHT_CE * F.cross_entropy(logits, targets) + WEIGHT_KD * soft
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            began = began or time.perf_counter()
        yield (len(starts) - 1) / (time.perf_counter() - began)
