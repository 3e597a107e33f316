"""The loop that research scripts run, from its description in ``docs/measurements.md``.

PIL transforms in two DataLoader workers, fp32, a teacher forward in each step, metrics formatted from the device in
each step, SGD. The networks are the engine's own, in torch's default memory format.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from benchmarks.engine.data import MEAN, STD
from worker.engine.data import ImageSet

Batches = DataLoader[tuple[Tensor, Tensor]]
"""Views and labels."""
TEMPERATURE, WEIGHT_CE, WEIGHT_KD = 4.0, 0.1, 0.9


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """One PIL image at a time, as torchvision's CIFAR-100; grey ones are not mirrored."""

    def __init__(self, images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        count, channels, side, _ = images.images.shape
        self._arrays = images.images.permute(0, 2, 3, 1).contiguous().view(count, side, side, -1).squeeze(3).numpy()
        self._labels = images.labels.tolist()
        steps: list[Any] = [transforms.RandomCrop(side, padding=side // 8)]
        steps += [transforms.RandomHorizontalFlip()] if channels == 3 else []
        self._transform: Any = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._arrays[index])), self._labels[index]


def loader(images: ImageSet, *, batch: int, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Batches:
    """The pictures through two workers, forked: those that are spawned import torch in each epoch anew."""
    pictures: TorchDataset[Any] = Pictures(images, mean, std)  # collated, its items are batches
    return DataLoader(pictures, batch_size=batch, shuffle=True, num_workers=2, multiprocessing_context="fork")


def epochs(
    teacher: nn.Module, student: nn.Module, loader: Batches, *, milestones: tuple[int, ...] = ()
) -> Iterator[float]:
    """Train for ever; after each epoch its images per second, the first step left out.

    After each of the ``milestones`` the learning rate is a tenth.
    """
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    teacher.eval()
    student.train()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones))
    while True:
        began, done = 0.0, 0
        for views, labels in loader:
            with torch.no_grad():
                theirs = teacher(views)
            ours = student(views)
            loss = WEIGHT_CE * F.cross_entropy(ours, labels) + WEIGHT_KD * soft_target_loss(ours, theirs)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            shown(loss, ours, labels)
            if began == 0.0:
                began = time.perf_counter()
            else:
                done += len(labels)
        schedule.step()
        yield done / (time.perf_counter() - began)


def soft_target_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """The scripts' own: KL of softened probabilities, times the temperature squared."""
    soft = F.log_softmax(ours / TEMPERATURE, dim=1)
    return F.kl_div(soft, F.softmax(theirs / TEMPERATURE, dim=1), reduction="batchmean") * TEMPERATURE**2


def shown(loss: Tensor, logits: Tensor, labels: Tensor) -> str:
    """What the progress bar says: loss, top-1 and top-5, read from the device."""
    best = logits.topk(5, dim=1).indices == labels[:, None]
    return f"{loss.item():.4f} {best[:, 0].float().mean().item():.3f} {best.any(dim=1).float().mean().item():.3f}"
