"""Augmentation as batched tensor code. A view is a function of (seed, epoch, sample) and of nothing else.

Each augmentation has so many views of an image, and they are numbered: first from the top down, then from the left,
then the mirrored ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.random import uniform_integers

_LARGE = 64 * 64
"""Pixels from which on a host is quicker to cut images one by one: twenty times at 224x224, slower at 32x32."""
AUGMENTATIONS = ("none", "crop", "crop-flip")


def padding_of(size: tuple[int, int]) -> int:
    """An eighth of the shorter side (4 for 32x32)."""
    return max(1, min(size) // 8)


def count_views(name: str, size: tuple[int, int]) -> int:
    """How many different views of an image of this height and width there are: 1, 81 or 162 for 32x32."""
    places = (2 * padding_of(size) + 1) ** 2
    return {"none": 1, "crop": places, "crop-flip": 2 * places}[name]


def draw_views(samples: Tensor, size: tuple[int, int], *, name: str, seed: int, epoch: int) -> Tensor:
    """The number of the view in which each of the sample ids (int64 [B]) is seen in this epoch: int64 [B]."""
    if name == "none":
        return torch.zeros_like(samples)
    places = 2 * padding_of(size) + 1
    top = uniform_integers(samples, places, seed=seed, epoch=epoch, stream="top")
    left = uniform_integers(samples, places, seed=seed, epoch=epoch, stream="left")
    if name == "crop":
        return top * places + left
    flip = uniform_integers(samples, 2, seed=seed, epoch=epoch, stream="flip")
    return (flip * places + top) * places + left


def augment(images: Tensor, views: Tensor, *, name: str) -> Tensor:
    """The views of these numbers (int64 [B]) of uint8 [B, C, H, W].

    ``crop`` pads by an eighth of the side with zeros and cuts at one of 81 places; ``crop-flip`` may mirror as well.
    """
    if name == "none":
        return images
    height, width = images.shape[-2:]
    padding = padding_of((height, width))
    places = 2 * padding + 1
    top, left = views // places % places, views % places
    if images.device.type == "cpu" and height * width >= _LARGE:
        return _one_by_one(images, top - padding, left - padding, views >= places * places)
    padded = F.pad(images, (padding, padding, padding, padding))
    cuts = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, places, places, H, W], nothing copied yet
    cut = cuts[torch.arange(len(images), device=images.device), :, top, left]
    if name == "crop":
        return cut
    mirrored = views >= places * places
    return torch.where(mirrored.view(-1, 1, 1, 1), cut.flip(3), cut)


def _one_by_one(images: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Each image from where its cut begins, with zeros where the cut reaches beyond it; channels last."""
    height, width = images.shape[-2:]
    cut = torch.zeros_like(images, memory_format=torch.channels_last)
    places = zip(images, cut, down.tolist(), right.tolist(), mirrored.tolist(), strict=True)
    for image, target, y, x, mirror in places:
        seen = image[:, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        first, last = max(-y, 0), height - max(y, 0)
        if mirror:
            target[:, first:last, max(x, 0) : width - max(-x, 0)] = seen.flip(2)
        else:
            target[:, first:last, max(-x, 0) : width - max(x, 0)] = seen
    return cut
