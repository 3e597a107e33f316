"""Pixels that come as arrays: brought to uint8 [B, C, H, W], and to the size that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from worker.engine.data.found import Pixels
from worker.engine.data.images import ImageSet
from worker.engine.errors import UnusableUpload

Array = npt.NDArray[np.uint8]


def channels_first(pixels: Pixels, part: slice) -> Array:
    """uint8 [B, C, H, W] of [N, H, W], [N, H, W, C] or [N, C, H, W]; transparency goes on white."""
    images: np.ndarray[Any, np.dtype[np.uint8]] = np.array(pixels.images[part])
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if images.shape[3] == 4:
        alpha = images[..., 3:].astype(np.uint16)
        flat = (images[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha) + 127) // 255
        return flat.astype(np.uint8).transpose(0, 3, 1, 2)
    if images.shape[1] in (1, 3):
        return images
    raise UnusableUpload(
        f"images of the shape {list(images.shape[1:])} have neither 1, 3 nor 4 channels.",
        remedy="Store them as [N, H, W] or [N, H, W, C].",
    )


def resized(images: Array, side: int) -> Array:
    """Short side to ``side``, then the centre."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    small: Array = ImageSet(tensor, torch.zeros(len(tensor), dtype=torch.int64)).resized(side).images.numpy()
    return small
