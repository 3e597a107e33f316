"""A strong view of an image, for a method that shows one besides the usual: two operations of fourteen, and a cutout.

Which operations, how strong and where are functions of (seed, epoch, sample). The list and its ranges are those of
RandAugment (Cubuk et al. 2020) as FixMatch draws from it (Sohn et al. 2020), a strength for each image. Everything is
uint8 [B, C, H, W] with one strength an image, float64 [B]; what is moved takes the nearest pixel, and black from
outside. An operation is computed on the images that drew it; the host knows which, so that no device is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from worker.engine.random import uniform_integers

Factor = Tensor | float
"""One for each image, float64 [B], or one for all."""
_TURNS = 2
_GRAIN = 2**32
_CUTOUT = 0.5
"""Largest side of the patch that is cut out, of the image's width."""
_GROUND = {1: (123,), 3: (125, 123, 114)}
"""The patch, by channels: about the mean of photographs."""


def strengthened(images: Tensor, samples: Tensor, *, seed: int, epoch: int) -> Tensor:
    """``images`` of ``samples``: int64 [B] on the host."""
    shown = images.clone()
    for turn in range(_TURNS):
        drawn = uniform_integers(samples, len(OPERATIONS), seed=seed, epoch=epoch, stream=f"operation {turn}")
        chosen = drawn.numpy()  # where no device is asked
        shares = _shares(samples, seed=seed, epoch=epoch, stream=f"strength {turn}")
        for place, (operation, low, high) in enumerate(OPERATIONS.values()):
            mine = torch.from_numpy(np.flatnonzero(chosen == place))
            if len(mine):
                where, strength = mine.to(images.device), low + (high - low) * shares[mine]
                shown[where] = operation(shown[where], strength.to(images.device))
    streams = ("cutout", "cutout left", "cutout top")
    patches = torch.stack([_shares(samples, seed=seed, epoch=epoch, stream=stream) for stream in streams])
    return cut_out(shown, *patches.to(images.device))


def cut_out(images: Tensor, size: Tensor, left: Tensor, top: Tensor) -> Tensor:
    """Cover a square: its side as a share of the largest, its centre as shares of width and height."""
    channels, height, width = images.shape[1:]
    half = (size * _CUTOUT * width / 2).view(-1, 1, 1)
    x, y = _centres(images)
    covered = ((x - left.view(-1, 1, 1) * width).abs() < half) & ((y - top.view(-1, 1, 1) * height).abs() < half)
    ground = images.new_tensor(_GROUND[channels]).view(1, -1, 1, 1)
    return torch.where(covered.unsqueeze(1), ground, images)


def _shares(samples: Tensor, *, seed: int, epoch: int, stream: str) -> Tensor:
    """Even on [0, 1): float64 [B]."""
    return uniform_integers(samples, _GRAIN, seed=seed, epoch=epoch, stream=stream).double() / _GRAIN


def _centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of the pixels, from the left [W] and from the top [H, 1]."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(n, dtype=torch.float64, device=images.device) + 0.5 for n in (width, height))
    return x, y.view(-1, 1)


def _moved(
    images: Tensor,
    *,
    x_by_x: Factor = 1.0,
    x_by_y: Factor = 0.0,
    x_from: Factor = 0.0,
    y_by_x: Factor = 0.0,
    y_by_y: Factor = 1.0,
    y_from: Factor = 0.0,
) -> Tensor:
    """The pixel at (x, y) becomes the one at (x_by_x x + x_by_y y + x_from, y_by_x x + y_by_y y + y_from)."""
    height, width = images.shape[-2:]
    x, y = _centres(images)
    column = (_wide(x_by_x) * x + _wide(x_by_y) * y + _wide(x_from)).floor().long()
    row = (_wide(y_by_x) * x + _wide(y_by_y) * y + _wide(y_from)).floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    taken = images.flatten(2).gather(2, places.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1))
    return torch.where(inside.unsqueeze(1), taken.view(images.shape), 0)


def _wide(factor: Factor) -> Factor:
    return factor.view(-1, 1, 1) if isinstance(factor, Tensor) else factor


def _rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the middle."""
    y, x = (side / 2 for side in images.shape[-2:])
    cosine, sine = torch.cos(degrees.deg2rad()), torch.sin(degrees.deg2rad())
    return _moved(
        images,
        x_by_x=cosine,
        x_by_y=-sine,
        x_from=x - cosine * x + sine * y,
        y_by_x=sine,
        y_by_y=cosine,
        y_from=y - sine * x - cosine * y,
    )


def _blended(ground: Tensor, images: Tensor, share: Tensor) -> Tensor:
    """``share`` of the image and the rest of ``ground``."""
    return (ground + share.float().view(-1, 1, 1, 1) * (images.float() - ground)).to(torch.uint8)


def _gray(images: Tensor) -> Tensor:
    """Luminance (ITU-R 601), int32 [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).unsqueeze(1)


def _darkened(images: Tensor, share: Tensor) -> Tensor:
    return _blended(torch.zeros_like(images, dtype=torch.float32), images, share)


def _faded(images: Tensor, share: Tensor) -> Tensor:
    return _blended(_gray(images).float().expand_as(images), images, share)


def _flattened(images: Tensor, share: Tensor) -> Tensor:
    """Towards the mean luminance."""
    mean = (_gray(images).double().mean(dim=(1, 2, 3)) + 0.5).floor()
    return _blended(mean.float().view(-1, 1, 1, 1).expand_as(images), images, share)


def _smoothed(images: Tensor, share: Tensor) -> Tensor:
    """Towards the mean of each pixel, five times, and its eight neighbours; the border stays."""
    whole = images.int()
    sums = whole.unfold(2, 3, 1).unfold(3, 3, 1).sum(dim=(4, 5)) + 4 * whole[..., 1:-1, 1:-1]
    smooth = images.float()
    smooth[..., 1:-1, 1:-1] = ((2 * sums + 13) // 26).float()
    return _blended(smooth, images, share)


def _stretched(images: Tensor, _: Tensor) -> Tensor:
    """Each channel to the whole range."""
    whole = images.int()
    low, high = whole.amin(dim=(2, 3), keepdim=True), whole.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (whole - low) * 255 // (high - low).clamp(min=1), whole).to(torch.uint8)


def _equalised(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's values to their rank, in steps such that all are about as frequent."""
    values = images.flatten(2)
    ordered = values.sort(dim=2).values
    levels = torch.arange(256, device=images.device).to(torch.uint8).expand(*values.shape[:2], 256).contiguous()
    before = torch.searchsorted(ordered, levels)
    step = torch.searchsorted(ordered, ordered[..., -1:].contiguous()) // 255
    ranks = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    return torch.where(step > 0, ranks.gather(2, values.long()), values).view(images.shape)


def _posterised(images: Tensor, bits: Tensor) -> Tensor:
    """The highest ``bits`` of each value."""
    mask = (0xFF << (8 - bits.long())) & 0xFF
    return images & mask.to(torch.uint8).view(-1, 1, 1, 1)


def _solarised(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from the threshold on turned round."""
    return torch.where(images < threshold.view(-1, 1, 1, 1), images, 255 - images)


OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float, float]] = {
    "identity": (lambda images, _: images, 0, 1),
    "autocontrast": (_stretched, 0, 1),
    "equalize": (_equalised, 0, 1),
    "brightness": (_darkened, 0.05, 0.95),
    "color": (_faded, 0.05, 0.95),
    "contrast": (_flattened, 0.05, 0.95),
    "sharpness": (_smoothed, 0.05, 0.95),
    "posterize": (_posterised, 4, 8),
    "solarize": (_solarised, 0, 256),
    "rotate": (_rotated, -30, 30),
    "shear-x": (lambda images, share: _moved(images, x_by_y=share), -0.3, 0.3),
    "shear-y": (lambda images, share: _moved(images, y_by_x=share), -0.3, 0.3),
    "translate-x": (lambda images, share: _moved(images, x_from=share * images.shape[3]), -0.3, 0.3),
    "translate-y": (lambda images, share: _moved(images, y_from=share * images.shape[2]), -0.3, 0.3),
}
"""By name: what it does, and the strengths it is drawn from."""
