"""CIFAR-100, or made data of its shape."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from PIL import Image

from worker.engine.data import ImageSet

CLASSES = 100
MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


def cifar100(folder: Path | None, count: int) -> ImageSet:
    """The first ``count`` training images: of the folder with torchvision's files, else made ones.

    A made image is its class's own pattern under noise, so that there is something to learn.
    """
    if folder is not None:
        with (folder / "cifar-100-python" / "train").open("rb") as file:
            content = pickle.load(file, encoding="latin1")  # noqa: S301  # torchvision's file, named by who runs this
        images = torch.from_numpy(content["data"][:count]).view(-1, 3, 32, 32).clone()
        return ImageSet(images, torch.tensor(content["fine_labels"][:count]))
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    patterns = torch.rand(CLASSES, 3, 4, 4, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.rand(count, 3, 32, 32, generator=generator)
    return ImageSet(((0.7 * patterns[labels] + 0.3 * noise) * 255).to(torch.uint8), labels)


def like_digits(count: int, side: int) -> ImageSet:
    """Grey images of ten classes, as small as the UCI digits or MNIST."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (count,), generator=generator)
    patterns = torch.rand(10, 1, side, side, generator=generator)
    noise = torch.rand(count, 1, side, side, generator=generator)
    return ImageSet(((0.7 * patterns[labels] + 0.3 * noise) * 255).to(torch.uint8), labels)


def photographs(folder: Path, count: int) -> Path:
    """JPEGs of ten classes in their folders, of sides from 256 to 500 pixels and as many bytes as photographs have:
    broad patches of colour, most of them the class's own, under a fine grain.
    """
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(256, (10, 3, 6, 6), generator=generator)
    sides = torch.randint(256, 501, (count, 2), generator=generator).tolist()
    for index, (height, width) in enumerate(sides):
        label = index % 10
        own = torch.where(torch.rand(1, 6, 6, generator=generator) < 0.7, patches[label], patches[label].flip(1))
        broad = torch.nn.functional.interpolate(own[None].float(), (height, width), mode="bicubic")[0]
        grain = torch.randint(-20, 21, (1, height, width), generator=generator)
        pixels = (broad + grain).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
        path = folder / f"class-{label}" / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path, quality=90)
    return folder
