"""The built-in data sets the service offers; a test holds this table against the engine's."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What a spec is reviewed against, of a built-in set or an uploaded one."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    train: int
    """Images in the training split as published, before validation (and a missing test split) is drawn from it."""
    test: int | None
    """Images in the published test split; None where there is none and a tenth of train is drawn instead."""
    validation: int | None = None
    """Images in a validation split that the set brings along."""
    smallest_class: int | None = None
    """Training images of the rarest class, where that is known."""

    @property
    def images(self) -> int:
        """Of all splits."""
        return self.train + (self.test or 0) + (self.validation or 0)

    def resized(self, side: int | None) -> DatasetFacts:
        """The same with images of ``side`` by ``side``; None leaves them as they are."""
        return self if side is None else replace(self, shape=(self.shape[0], side, side))


@dataclass(frozen=True, kw_only=True)
class BuiltinDataset(DatasetFacts):
    """A data set that needs no upload."""

    title: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


_DIGITS = tuple(str(digit) for digit in range(10))

DATASETS: dict[str, BuiltinDataset] = {
    "digits": BuiltinDataset(
        name="digits",
        title="UCI handwritten digits, 8x8",
        classes=_DIGITS,
        shape=(1, 8, 8),
        train=1797,
        test=None,
        mean=(0.3053,),
        std=(0.3761,),
        source="E. Alpaydin, C. Kaynak, UCI optdigits (1998), as scikit-learn carries it",
    ),
    "mnist": BuiltinDataset(
        name="mnist",
        title="MNIST handwritten digits, 28x28",
        classes=_DIGITS,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        mean=(0.5,),
        std=(0.5,),
        source="Y. LeCun, C. Cortes, C. Burges, MNIST (1998), through torchvision",
    ),
}
