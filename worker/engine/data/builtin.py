"""Every built-in data set. To add one: a file beside this or a line in ``torchvision_sets``, and its entry in
``stillhouse.spec.datasets``.

Only the fetching child imports this: scikit-learn and torchvision would double a training child's start-up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.engine.data import digits
from worker.engine.data.images import RawDataset
from worker.engine.data.torchvision_sets import SETS

BUILTIN: dict[str, Callable[[Path | None, Path], RawDataset]] = {
    "digits": digits.load,
    **{name: known.load for name, known in SETS.items()},
}
"""By name: (folder that may already hold it, folder to download into) to the data set."""
