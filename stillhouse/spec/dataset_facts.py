"""What is known of a data set before its images are there."""

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
    mean: tuple[float, ...] | None = None
    """Of each channel for pixels from 0 to 1, where published; else it is computed from the training split."""
    std: tuple[float, ...] | None = None
    source: str
