"""Data sets: images in memory, splits, the staged form, and the built-in ones."""

from __future__ import annotations

from worker.engine.data.images import Dataset, ImageSet, RawDataset

__all__ = ["Dataset", "ImageSet", "RawDataset"]
