"""Contrastive representation distillation: Tian, Krishnan, Isola (ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from worker.engine.errors import MethodRefused
from worker.engine.losses import unit
from worker.engine.method import Batch, FeatureMethod, Outputs, Setting
from worker.engine.points import Shape
from worker.engine.random import uniform_integers

_EPSILON = 1e-7


class ContrastiveDistillation(FeatureMethod):
    """The student's embedding of a sample is told from those of other classes by the teacher's, and the reverse.

    A memory bank holds an embedding of every training sample for each side. The negatives of a sample are drawn with
    replacement from the other classes, as a function of (seed, epoch, sample). Scores are taken against the whole
    bank and each negative counted as often as it was drawn: no gather, so the gradient is deterministic on GPUs.
    """

    kind = "embedding"
    needs_maps = False
    relational = True
    our_bank: Tensor
    their_bank: Tensor
    our_normaliser: Tensor
    their_normaliser: Tensor
    by_class: Tensor
    class_start: Tensor
    class_size: Tensor

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        weight_ce: float = 1.0,
        weight_feature: float = 0.8,
        dimensions: int = 128,
        negatives: int = 16_384,
        momentum: float = 0.5,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.temperature = temperature
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature
        self.dimensions = dimensions
        self.negatives = negatives
        self.momentum = momentum
        self.embeddings = nn.ModuleList()

    def prepare(self, setting: Setting) -> list[str]:
        super().prepare(setting)
        if len(self.pairs) != 1:
            message = f"crd contrasts one pair of feature points, not {len(self.pairs)}."
            raise MethodRefused(message, remedy="Name one student point and one teacher point.")
        labels, samples = setting.labels.cpu(), len(setting.labels)
        sizes = torch.bincount(labels, minlength=setting.classes)
        if int(sizes.max()) == samples:
            message = "crd contrasts a sample with those of other classes, and every sample is of one class."
            raise MethodRefused(message, remedy="Use data of two classes or more.")
        self.register_buffer("by_class", torch.argsort(labels, stable=True), persistent=False)
        self.register_buffer("class_start", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("class_size", sizes, persistent=False)
        reach = (3 / self.dimensions) ** 0.5
        for name in ("our_bank", "their_bank"):
            self.register_buffer(name, (2 * torch.rand(samples, self.dimensions) - 1) * reach)
        for name in ("our_normaliser", "their_normaliser"):
            self.register_buffer(name, torch.tensor(-1.0))
        if self.negatives <= samples:
            return []
        self.negatives, asked = samples, self.negatives
        return [f"crd draws {samples} negatives, as many as there are training images, not {asked}"]

    def connect(self, index: int, ours: Shape, theirs: Shape) -> None:
        self.embeddings = nn.ModuleList(
            nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), self.dimensions)) for shape in (ours, theirs)
        )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        ((ours, theirs),) = self.features(student, teacher)
        one, other = (unit(embed(values), dim=1) for embed, values in zip(self.embeddings, (ours, theirs), strict=True))
        counts = self._drawn(batch)
        our_scores, self.our_normaliser = self._scores(one, self.their_bank, self.our_normaliser, batch, counts)
        their_scores, self.their_normaliser = self._scores(other, self.our_bank, self.their_normaliser, batch, counts)
        loss = self._contrast(our_scores, batch, counts) + self._contrast(their_scores, batch, counts)
        self.our_bank = self._remember(self.our_bank, one, batch)
        self.their_bank = self._remember(self.their_bank, other, batch)
        return {"feature": self.weight_feature * loss, **self.supervised(student, batch)}

    def _drawn(self, batch: Batch) -> Tensor:
        """How often each training sample is a negative of each of the batch: [B, N]."""
        draws = torch.arange(self.negatives, device=batch.samples.device)
        ids = batch.samples[:, None] * self.negatives + draws[None, :]
        own_start, own_size = self.class_start[batch.labels][:, None], self.class_size[batch.labels][:, None]
        total = len(self.by_class)
        places = uniform_integers(ids, total - own_size, seed=batch.seed, epoch=batch.epoch, stream="negatives")
        places = places + torch.where(places >= own_start, own_size, 0)  # the own class is stepped over
        counts = torch.zeros(len(batch.samples), total, dtype=torch.float32, device=batch.samples.device)
        return counts.scatter_add_(1, self.by_class[places], torch.ones_like(places, dtype=torch.float32))

    def _scores(
        self, anchors: Tensor, bank: Tensor, normaliser: Tensor, batch: Batch, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """exp(e m / T) / Z against the whole bank, [B, N]; Z is N times the mean score of the first batch, for good."""
        scores = torch.exp(anchors @ bank.T.to(anchors.dtype) / self.temperature)
        with torch.no_grad():
            positives = scores.gather(1, batch.samples[:, None]).sum()
            mean = (positives + (scores * counts).sum()) / (len(anchors) * (self.negatives + 1))
            kept = torch.where(normaliser < 0, (mean * len(bank)).to(normaliser.dtype), normaliser)
        return scores / kept, kept

    def _contrast(self, scores: Tensor, batch: Batch, counts: Tensor) -> Tensor:
        """Noise-contrastive: the sample's own score is data, those of its negatives are noise at rate K / N."""
        noise = self.negatives / scores.shape[1]
        own = scores.gather(1, batch.samples[:, None])
        data = torch.log(own / (own + noise + _EPSILON)).sum()
        rest = (counts * torch.log(noise / (scores + noise + _EPSILON))).sum()
        return -(data + rest) / len(scores)

    @torch.no_grad()
    def _remember(self, bank: Tensor, fresh: Tensor, batch: Batch) -> Tensor:
        """Out of place: the old bank is still needed for the gradient."""
        moved = self.momentum * bank[batch.samples] + (1 - self.momentum) * fresh.to(bank.dtype)
        return bank.index_copy(0, batch.samples, unit(moved, dim=1))
