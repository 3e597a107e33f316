"""Methods that imitate the teacher's features; the teacher must be a single network, not a black box."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from stillhouse.spec.methods.base import (
    CE,
    FEATURE,
    STUDENT_POINTS,
    TEACHER_POINTS,
    WARMUP,
    FeatureWeight,
    Imitation,
    Points,
    WarmUp,
    Weight,
)


class FeatureImitation(Imitation):
    """Points of student and teacher are paired in order; without names, the last ones that both have."""

    needed = ("weight_feature",)
    reads_features = True

    student_points: Points | None = Field(default=None, description=STUDENT_POINTS)
    teacher_points: Points | None = Field(default=None, description=TEACHER_POINTS)


class FitNet(FeatureImitation):
    """The middle stage, through a trained regressor (Romero et al. 2015, eq. 3), together with the labels.

    Loss: ``weight_ce * CE + weight_feature * mean (regressor(student) - teacher)^2``.
    """

    student_kinds = ("middle",)
    teacher_kinds = ("middle",)

    name: Literal["fitnet"] = "fitnet"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=100.0, description=FEATURE)


class AttentionTransfer(FeatureImitation):
    """Where the networks look (Zagoruyko, Komodakis 2017, section 3.1).

    Loss: ``weight_ce * CE + weight_feature * sum over stages of mean (Q_student - Q_teacher)^2``, Q the map of the
    mean squared activation, normalised; the larger map is pooled to the smaller.
    """

    student_kinds = ("stages",)
    teacher_kinds = ("stages",)

    name: Literal["at"] = "at"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=1000.0, description=FEATURE)


class SimilarityPreserving(FeatureImitation):
    """Which samples of a batch are alike (Tung, Mori 2019, eq. 1 to 4), at the last stage.

    Loss: ``weight_ce * CE + weight_feature * |G_student - G_teacher|^2 / B^2``, G the rows of F F' normalised.
    """

    student_kinds = ("last",)
    teacher_kinds = ("last",)

    name: Literal["sp"] = "sp"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=3000.0, description=FEATURE)


class RelationalDistillation(FeatureImitation):
    """Distances of pairs and angles of triplets of embeddings (Park, Kim, Lu, Cho 2019).

    Loss: ``weight_ce * CE + weight_feature * (weight_distance * smooth L1 of the distances over their mean +
    weight_angle * smooth L1 of the cosines)``.
    """

    parts = ("weight_distance", "weight_angle")

    student_kinds = ("embedding",)
    teacher_kinds = ("embedding",)

    name: Literal["rkd"] = "rkd"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=1.0, description=FEATURE)
    weight_distance: Weight = Field(default=25.0, description="Share of the distances between two samples.")
    weight_angle: Weight = Field(default=50.0, description="Share of the angles between three samples.")
    angle_samples: int = Field(
        default=128, ge=3, le=512, description="Samples of a batch among which angles are taken: cubed in memory."
    )


class ProbabilisticTransfer(FeatureImitation):
    """Which samples are whose neighbours (Passalis, Tefas 2018, cosine kernel).

    Loss: ``weight_ce * CE + weight_feature * mean over pairs of p_teacher log(p_teacher / p_student)``. The mean is
    over B^2 pairs, so the weight is large, and other batch sizes need another one.
    """

    student_kinds = ("embedding",)
    teacher_kinds = ("embedding",)

    name: Literal["pkt"] = "pkt"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=30_000.0, description=FEATURE)


class VariationalInformation(FeatureImitation):
    """Mutual information of the stages (Ahn, Hu, Damianou, Lawrence, Dai 2019).

    Loss: ``weight_ce * CE + weight_feature * sum over stages of mean ((m(student) - teacher)^2 / v + log v) / 2``,
    with a learned mean m and, for each channel, a learned variance v. It may fall below zero.
    """

    student_kinds = ("stages",)
    teacher_kinds = ("stages",)

    name: Literal["vid"] = "vid"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=1.0, description=FEATURE)


class ContrastiveDistillation(FeatureImitation):
    """A sample is told from those of other classes by the teacher (Tian, Krishnan, Isola 2020).

    Loss: ``weight_ce * CE + weight_feature * (noise-contrastive loss of the student against the teacher's memory bank
    + the reverse)``. The banks hold two embeddings for every training image; negatives are at most as many as those.
    Published with kd beside it: ``method: [{name: crd}, {name: kd, weight_ce: 0, weight_kd: 1}]``.
    """

    student_kinds = ("embedding",)
    teacher_kinds = ("embedding",)

    name: Literal["crd"] = "crd"
    temperature: float = Field(default=0.07, ge=0.02, le=10, description="Divides the cosines of embeddings.")
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=0.8, description=FEATURE)
    dimensions: int = Field(default=128, ge=2, le=2048, description="Of the embeddings that are compared.")
    negatives: int = Field(default=16_384, ge=1, le=1_000_000, description="Samples of other classes for each image.")
    momentum: float = Field(default=0.5, ge=0, lt=1, description="What a bank keeps of a sample's old embedding.")


class KnowledgeReview(FeatureImitation):
    """Earlier stages of the teacher taught to fused later ones of the student (Chen, Liu, Zhao, Jia 2021, section 3).

    Loss: ``weight_ce * CE + weight_feature * sum over stages of the distance at four sizes``; the teacher's stages
    are read before their activation. Published weight_feature: 0.6 (resnet56 to resnet20), 1, 5 (resnet32x4 to
    resnet8x4), 8; ImageNet 1 with a warm-up of 1 epoch.
    """

    large_scale: ClassVar[dict[str, Any]] = {"warmup_epochs": 1}

    student_kinds = ("stages", "embedding")
    teacher_kinds = ("preactivations", "embedding")

    name: Literal["reviewkd"] = "reviewkd"
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_feature: FeatureWeight = Field(default=1.0, description=FEATURE)
    warmup_epochs: WarmUp = Field(default=20, description=WARMUP)
    maximum_channels: int = Field(default=512, ge=1, le=4096, description="Most channels inside the fusion.")


class ReusedClassifier(FeatureImitation):
    """The teacher's own classifier on the student's projected features (Chen et al. 2022).

    Loss: ``weight_ce * CE + weight_feature * mean (projector(student) - teacher)^2``, of the last maps. Projector and
    classifier become part of the student, which is larger than its architecture: the warning says by how much.
    """

    student_kinds = ("last",)
    teacher_kinds = ("last",)

    name: Literal["simkd"] = "simkd"
    weight_ce: Weight = Field(default=0.0, description=CE)
    weight_feature: FeatureWeight = Field(default=1.0, description=FEATURE)
    reduction: int = Field(default=2, ge=1, le=64, description="The projector is so many times narrower inside.")
