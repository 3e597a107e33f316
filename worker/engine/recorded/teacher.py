"""Outputs that were computed elsewhere, as a teacher: those of the images as they are, without augmentation."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from worker.engine.data import Dataset
from worker.engine.errors import WeightsRefused
from worker.engine.method import Batch, Outputs

_ON_DEVICE = 256 * 2**20
"""Bytes of rows up to which they go to the device; more stay on the host, mapped, and go over batch by batch."""
_HASHED = 2**14


class RecordedTeacher:
    """A row of logits for each image of the stored training split; it has no feature points and sees no image.

    Raises WeightsRefused where the rows are not as many as the images.
    """

    def __init__(
        self, rows: Tensor, dataset: Dataset, *, test: Tensor | None = None, device: torch.device | None = None
    ) -> None:
        """``rows`` and ``test`` are float32 [N, classes], in the order of the splits as they are stored."""
        origin = dataset.origin
        for split, given, wanted in (("training", rows, origin.images), ("test", test, origin.test_images)):
            if given is not None and len(given) != wanted:
                message = f"the file of logits has {len(given):,} rows, and the data set {wanted:,} {split} images."
                raise WeightsRefused(message, remedy=f"Give one row for each {split} image, in the order of the split.")
        place = device or dataset.train.labels.device
        self.rows = rows.to(place) if rows.nbytes <= _ON_DEVICE else rows
        self.places = origin.train.to(self.rows.device)
        """Of each sample of the job's training split, its row."""
        self.test = rows[origin.drawn_test] if origin.drawn_test is not None else test
        """float32 [N, classes] for the job's test split, or None where the file says nothing of it."""

    def outputs(self, images: Tensor, batch: Batch) -> Outputs:
        """The rows of ``batch``; of ``images`` only the device counts."""
        rows = self.rows[self.places[batch.samples.to(self.rows.device)]]
        return Outputs(rows.to(images.device))

    def fingerprint(self) -> str:
        """sha256 over the rows' bytes."""
        digest = hashlib.sha256()
        for piece in torch.split(self.rows, _HASHED):
            digest.update(piece.cpu().contiguous().numpy().data)
        return digest.hexdigest()
