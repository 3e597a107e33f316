"""Augmentation as batched tensor code. A view is a function of (seed, epoch, sample) and of nothing else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.random import uniform_integers

AUGMENTATIONS = ("none", "crop", "crop-flip")


def augment(images: Tensor, samples: Tensor, *, name: str, seed: int, epoch: int) -> Tensor:
    """Random views of uint8 [B, C, H, W] for the sample ids int64 [B].

    ``crop`` pads by an eighth of the side (4 for 32x32, so 81 views) with zeros and cuts at a random place;
    ``crop-flip`` also mirrors half of them.
    """
    if name == "none":
        return images
    padding = max(1, min(images.shape[-2:]) // 8)
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding, padding, padding, padding))
    top = uniform_integers(samples, 2 * padding + 1, seed=seed, epoch=epoch, stream="top")
    left = uniform_integers(samples, 2 * padding + 1, seed=seed, epoch=epoch, stream="left")
    rows = top[:, None] + torch.arange(height, device=images.device)  # [B, H]
    columns = left[:, None] + torch.arange(width, device=images.device)  # [B, W]
    if name == "crop-flip":
        mirrored = uniform_integers(samples, 2, seed=seed, epoch=epoch, stream="flip").bool()
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]
