"""The UCI handwritten digits that scikit-learn carries: 1,797 images of 8x8, without a test split."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from worker.engine.data.images import ImageSet, RawDataset


def load(_datasets_dir: Path | None, _cache: Path) -> RawDataset:
    """Values 0 to 16 become 0 to 255; mean and deviation are those of the whole set."""
    found = load_digits()
    images = torch.from_numpy(found.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    train = ImageSet(images.contiguous(), labels)
    return RawDataset("digits", tuple("0123456789"), (0.3053,), (0.3761,), train, None)
