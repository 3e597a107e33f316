"""Function matching: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022)."""

from __future__ import annotations

from torch import Tensor

from worker.engine.losses import soft_target_divergence
from worker.engine.method import Batch, Method, Outputs
from worker.engine.random import uniform_integers

_GRAIN = 2**24


class FunctionMatching(Method):
    """The divergence alone, on mixtures of images that teacher and student both see; made for long schedules.

    Each image is mixed with its neighbour in the batch by a share that is even on 0 to 1 and a
    function of (seed, epoch, sample). No label enters.
    """

    def __init__(self, *, temperature: float = 1.0, weight_kd: float = 1.0, mixup: bool = True) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight_kd = weight_kd
        self.mixup = self.mixes_images = mixup

    def view(self, images: Tensor, batch: Batch) -> Tensor:
        if not self.mixup:
            return images
        drawn = uniform_integers(batch.samples, _GRAIN, seed=batch.seed, epoch=batch.epoch, stream="mixup")
        share = (drawn.to(images.dtype) / _GRAIN).view(-1, 1, 1, 1)
        return share * images + (1 - share) * images.roll(1, dims=0)

    def forward(self, student: Outputs, teacher: Outputs | None, _batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        return {"kd": self.weight_kd * soft_target_divergence(student.logits, teacher.logits, self.temperature)}
