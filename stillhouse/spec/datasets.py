"""The built-in data sets the service offers; a test holds this table against the engine's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltinDataset:
    """A data set that needs no upload."""

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    train: int
    """Images in the training split as published, before validation (and a missing test split) is drawn from it."""
    test: int | None
    """Images in the published test split; None where there is none and a tenth of train is drawn instead."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


_DIGITS = tuple(str(digit) for digit in range(10))

DATASETS: dict[str, BuiltinDataset] = {
    "digits": BuiltinDataset(
        "digits",
        "UCI handwritten digits, 8x8",
        _DIGITS,
        (1, 8, 8),
        1797,
        None,
        (0.3053,),
        (0.3761,),
        "E. Alpaydin, C. Kaynak, UCI optdigits (1998), as scikit-learn carries it",
    ),
    "mnist": BuiltinDataset(
        "mnist",
        "MNIST handwritten digits, 28x28",
        _DIGITS,
        (1, 28, 28),
        60_000,
        10_000,
        (0.5,),
        (0.5,),
        "Y. LeCun, C. Cortes, C. Burges, MNIST (1998), through torchvision",
    ),
}
