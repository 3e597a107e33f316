"""The strong view: each operation against Pillow's, what is drawn, and who sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from tests.engine.conftest import run, teacher
from worker.engine.augment import augment, draw_views
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.method import Method
from worker.engine.methods import METHODS
from worker.engine.random import derive
from worker.engine.strong import OPERATIONS, cut_out, strengthened
from worker.engine.views import Views

Picture = Image.Image


def affine(*numbers: float) -> Callable[[Picture], Picture]:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, numbers)


PILLOWS: dict[str, Callable[[Picture, float], Picture]] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(value),
    "color": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(value),
    "sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
    "posterize": lambda image, value: ImageOps.posterize(image, int(value)),
    "solarize": ImageOps.solarize,  # type: ignore[dict-item]  # any number will do
    "rotate": lambda image, value: image.rotate(value),
    "shear-x": lambda image, value: affine(1, value, 0, 0, 1, 0)(image),
    "shear-y": lambda image, value: affine(1, 0, 0, value, 1, 0)(image),
    "translate-x": lambda image, value: affine(1, 0, value * image.size[0], 0, 1, 0)(image),
    "translate-y": lambda image, value: affine(1, 0, 0, 0, 1, value * image.size[1])(image),
}


def smooth(count: int, channels: int) -> Tensor:
    """Pictures of 32x24 that are no noise, each channel within a range of its own."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.random((count, channels, 5, 4))).float()
    large = torch.nn.functional.interpolate(small, (32, 24), mode="bicubic").clamp(0, 1)
    low, span = (torch.from_numpy(rng.random((count, channels, 1, 1))).float() for _ in range(2))
    return (60 * low + (80 + 100 * span) * large).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_what_pillows_does(name: str, channels: int) -> None:
    """To one step in 255; where pixels are moved, but for those on the border between two."""
    operation, low, high = OPERATIONS[name]
    images = smooth(8, channels)
    strengths = low + (high - low) * torch.linspace(0.01, 0.99, 8, dtype=torch.float64)
    given = operation(images, strengths)
    assert given.dtype == torch.uint8
    for image, strength, ours in zip(images, strengths.tolist(), given, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
        theirs = torch.from_numpy(np.array(PILLOWS[name](picture, strength))).view(32, 24, channels).permute(2, 0, 1)
        near = (ours.int() - theirs.int()).abs() <= 1
        assert near.float().mean() >= (0.99 if name in ("rotate", "shear-x", "shear-y") else 1), strength
    changes = [bool((one != other).any()) for one, other in zip(given, images, strict=True)]
    assert any(changes) == (name != "identity" and (name, channels) != ("color", 1))


def test_a_patch_is_at_most_half_as_wide_as_the_image_and_where_it_was_drawn() -> None:
    images = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    size, left, top = torch.tensor([[1.0, 0.25, 0.999], [0.5, 0.5, 0.0], [0.5, 0.25, 0.0]], dtype=torch.float64)
    covered = cut_out(images, size, left, top)[:, 0] != 255
    assert covered.sum(dim=(1, 2)).tolist() == [16 * 16, 4 * 4, 8 * 8]
    assert covered[1, 6:10, 14:18].all()


def test_a_strong_view_is_a_function_of_seed_epoch_and_sample() -> None:
    images, samples = smooth(40, 3), torch.arange(40) + 7
    once = strengthened(images, samples, seed=1, epoch=2)
    back = torch.arange(39, -1, -1)
    assert torch.equal(strengthened(images[back], samples[back], seed=1, epoch=2), once[back])
    assert torch.equal(strengthened(images[3:5], samples[3:5], seed=1, epoch=2), once[3:5])
    for other in (strengthened(images, samples, seed=2, epoch=2), strengthened(images, samples, seed=1, epoch=3)):
        assert sum(torch.equal(one, two) for one, two in zip(once, other, strict=True)) < 4
    assert torch.equal(images, smooth(40, 3))


def test_each_operation_is_drawn_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(OPERATIONS, 0)
    shares: list[Tensor] = []

    def counting(name: str, low: float, high: float) -> Callable[[Tensor, Tensor], Tensor]:
        def count(images: Tensor, strengths: Tensor) -> Tensor:
            counts[name] += len(images)
            shares.append((strengths - low) / (high - low))
            return images

        return count

    for name, (_, low, high) in OPERATIONS.items():
        monkeypatch.setitem(OPERATIONS, name, (counting(name, low, high), low, high))
    strengthened(torch.zeros(14_000, 1, 8, 8, dtype=torch.uint8), torch.arange(14_000), seed=0, epoch=1)
    assert all(1850 < count < 2150 for count in counts.values()), counts
    assert torch.histc(torch.cat(shares), 10, 0, 1).min() > 2600


def test_it_is_drawn_by_itself_from_a_split(digits: Dataset) -> None:
    """Crop and flip are others than the usual view's, and come before the operations."""
    views, rows = Views(digits.train, "crop-flip"), torch.arange(20) * 18 + 5
    samples, own = torch.arange(20), derive(3, "strong")
    drawn = draw_views(samples, (8, 8), name="crop-flip", seed=own, epoch=4)
    cut = augment(digits.train.images[:20], drawn, name="crop-flip")
    expected = strengthened(cut, samples, seed=own, epoch=4).float() / 255
    assert views.each == 18
    assert torch.equal(views.strong(rows, seed=3, epoch=4), expected)
    usual = draw_views(samples, (8, 8), name="crop-flip", seed=3, epoch=4)
    assert (usual != drawn).sum() > 12


@pytest.mark.parametrize("method", [METHODS["mlkd"](), METHODS["none"](views=2)], ids=["mlkd", "none"])
def test_teacher_student_and_control_see_the_same_two_views(digits: Dataset, method: Method) -> None:
    some = digits.train.take(torch.arange(64))
    source = teacher(digits)
    live = run(digits, method=method, taught_by=source, train=some, epochs=1)
    seen: list[Tensor] = []
    events = distill(live)
    next(events)
    live.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    taught = source.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rows = live.views.of_epoch(seed=7, epoch=1)[32:]
    next(event for event in events if live.step == 2)
    taught.remove()
    strong = live.views.strong(rows, seed=7, epoch=1)
    assert torch.equal(seen[0], live.views.show(rows))
    assert [torch.equal(images, strong) for images in seen].count(True) == 2
    assert not torch.equal(seen[0], strong)
