"""Every built-in data set. To add one: a file beside this, a line here, and its entry in ``stillhouse.spec.datasets``.

Only the fetching child imports this: scikit-learn and torchvision would double a training child's start-up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.engine.data import digits, mnist
from worker.engine.data.images import RawDataset

BUILTIN: dict[str, Callable[[Path | None, Path], RawDataset]] = {"digits": digits.load, "mnist": mnist.load}
"""By name: (folder that may already hold it, folder to download into) to the data set."""
