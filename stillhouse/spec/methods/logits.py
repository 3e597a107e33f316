"""Methods that imitate the teacher's logits; any teacher will do, a black box too."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from stillhouse.spec.base import SpecModel
from stillhouse.spec.methods.base import (
    CE,
    KD,
    STANDARDISE,
    STUDENT_POINTS,
    TEMPERATURE,
    WARMUP,
    Imitation,
    Points,
    Temperature,
    WarmUp,
    Weight,
)


class KnowledgeDistillation(Imitation):
    """Soft targets at a temperature (Hinton, Vinyals, Dean 2015, eq. 2 to 4).

    Loss: ``weight_ce * CE(student, labels) + weight_kd * T^2 * KL(teacher || student)``, both batch means. From 500
    classes on the values left out are 1, 0.5 and 0.5. ``standardise`` (Sun, Ren, Li, Wang, Cao 2024) brings
    each row of logits to mean 0 and deviation 1 first; left out, temperature is then 2 and weight_kd 9.
    """

    when_standardised: ClassVar[dict[str, Any]] = {"temperature": 2.0, "weight_kd": 9.0}
    needed = ("weight_kd",)
    large_scale: ClassVar[dict[str, Any]] = {"temperature": 1.0, "weight_ce": 0.5, "weight_kd": 0.5}

    name: Literal["kd"] = "kd"
    temperature: Temperature = Field(default=4.0, description=TEMPERATURE)
    weight_ce: Weight = Field(default=0.1, description=CE)
    weight_kd: Weight = Field(
        default=0.9, description="Weight of the divergence from the teacher, times temperature squared."
    )
    standardise: bool = Field(default=False, description=STANDARDISE)


class DecoupledDistillation(Imitation):
    """The divergence in two parts with weights of their own (Zhao, Cui, Song, Qiu, Liang 2022, eq. 7).

    Loss: ``weight_ce * CE + weight_kd * T^2 * (weight_target * KL of (p_label, 1 - p_label) + weight_nontarget * KL
    of the softmax over the other classes)``. The published weight_nontarget is 2 for teachers a little stronger than
    the student (resnet56 to resnet20), 6 to 8 for much stronger ones; 0.5 on ImageNet, with temperature and warm-up 1.
    With two classes the second part does not exist. ``standardise``: see kd; temperature 2, weight_kd 9.
    """

    when_standardised: ClassVar[dict[str, Any]] = {"temperature": 2.0, "weight_kd": 9.0}
    needed = ("weight_kd",)
    parts = ("weight_target", "weight_nontarget")
    large_scale: ClassVar[dict[str, Any]] = {"temperature": 1.0, "weight_nontarget": 0.5, "warmup_epochs": 1}

    name: Literal["dkd"] = "dkd"
    temperature: Temperature = Field(default=4.0, description=TEMPERATURE)
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_kd: Weight = Field(default=1.0, description=KD)
    weight_target: Weight = Field(default=1.0, description="Share of how sure the teacher is of the label.")
    weight_nontarget: Weight = Field(default=8.0, description="Share of how the teacher ranks the other classes.")
    warmup_epochs: WarmUp = Field(default=20, description=WARMUP)
    standardise: bool = Field(default=False, description=STANDARDISE)


class NormalisedDistillation(Imitation):
    """Cross-entropies with the teacher's word on the label and on the others (Yang et al. 2023).

    Loss: ``weight_ce * CE + weight_kd * (weight_target * mean(-p_teacher(label) log p_student(label)) +
    weight_nontarget * T^2 * CE of the softmaxes over the other classes)``; T concerns the last term alone. Published:
    T 3, 3.5 on CIFAR-100; T 1, 1.5 on ImageNet.
    """

    needed = ("weight_kd",)
    parts = ("weight_target", "weight_nontarget")
    large_scale: ClassVar[dict[str, Any]] = {"temperature": 1.0, "weight_nontarget": 1.5}

    name: Literal["nkd"] = "nkd"
    temperature: Temperature = Field(default=3.0, description="Divides the logits of the classes that are not labels.")
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_kd: Weight = Field(default=1.0, description=KD)
    weight_target: Weight = Field(default=1.0, description="Share of the teacher's probability of the label.")
    weight_nontarget: Weight = Field(default=3.5, description="Share of the teacher's ranking of the other classes.")


class CorrelationDistillation(Imitation):
    """Correlation instead of divergence (Huang, You, Wang, Qian, Xu 2022); needs three classes or more.

    Loss: ``weight_ce * CE + weight_kd * T^2 * (weight_inter * (1 - correlation over classes) + weight_intra * (1 -
    correlation over the batch's samples))``. Published: T 4 on CIFAR-100, 1 on ImageNet.
    """

    needed = ("weight_kd",)
    parts = ("weight_inter", "weight_intra")
    large_scale: ClassVar[dict[str, Any]] = {"temperature": 1.0}

    name: Literal["dist"] = "dist"
    temperature: Temperature = Field(default=4.0, description=TEMPERATURE)
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_kd: Weight = Field(default=2.0, description=KD)
    weight_inter: Weight = Field(default=1.0, description="Share of the correlation over the classes of each sample.")
    weight_intra: Weight = Field(default=1.0, description="Share of the correlation over the samples of each class.")


class MultiLevelDistillation(Imitation):
    """Samples, batch and classes at several temperatures, on two views of each image (Jin, Wang, Lin 2023).

    Loss: the sum over the views of ``weight_ce * CE + weight_kd * sum over T of (weight_instance * T^2 * KL +
    weight_batch * |P P' - Q Q'|^2 / B + weight_class * |P' P - Q' Q|^2 / C)``. One view is that of
    training.augmentation; the other is drawn likewise and then changed strongly (two operations of RandAugment and a
    cutout). Left out, ``views`` is 1 where training.augmentation is none or a teacher is a file of logits.
    ``standardise``: see kd; it concerns the first term; weight_kd 9.
    """

    when_standardised: ClassVar[dict[str, Any]] = {"weight_kd": 9.0}
    needed = ("weight_kd",)
    parts = ("weight_instance", "weight_batch", "weight_class")

    name: Literal["mlkd"] = "mlkd"
    temperatures: list[Temperature] = Field(
        default=[2.0, 3.0, 4.0, 5.0, 6.0], min_length=1, max_length=16, description="Each gives all three terms."
    )
    weight_ce: Weight = Field(default=0.1, description=CE)
    weight_kd: Weight = Field(default=0.9, description=KD)
    weight_instance: Weight = Field(default=1.0, description="Share of the divergence for each sample.")
    weight_batch: Weight = Field(default=1.0, description="Share of how alike the batch's samples are.")
    weight_class: Weight = Field(default=1.0, description="Share of how the classes go together.")
    standardise: bool = Field(default=False, description=STANDARDISE)
    views: int = Field(
        default=2, ge=1, le=2, description="2 shows a strongly changed view as well, at twice the cost of a step."
    )

    @property
    def strong_view(self) -> bool:
        return self.views > 1

    def for_views(self, *, one: bool) -> Self:
        return self.model_copy(update={"views": 1}) if one and "views" not in self.model_fields_set else self


class OneForAll(Imitation):
    """Between any two architectures: the student's stages, each with a head of its own, are taught in logits.

    (Hao et al. 2023.) Of logits, ``loss(z) = -T^2 mean sum_c [(p_teacher + 1_label)^exponent - 1_label]
    log softmax(z)``; loss: ``weight_ce * CE + weight_kd * loss(student) + weight_feature * sum over stages of
    loss(head(stage))``. The heads are trained along and are no part of the student that is served.
    """

    parts = ("weight_kd", "weight_feature")

    student_kinds = ("stages",)

    name: Literal["ofa"] = "ofa"
    temperature: Temperature = Field(default=1.0, description=TEMPERATURE)
    exponent: float = Field(default=1.0, ge=1, le=4, description="Strengthens the label's share; published 1 to 1.5.")
    weight_ce: Weight = Field(default=1.0, description=CE)
    weight_kd: Weight = Field(default=1.0, description=KD)
    weight_feature: Weight = Field(default=1.0, description="Weight of the stages' heads.")
    student_points: Points | None = Field(default=None, description=STUDENT_POINTS)


class FunctionMatching(Imitation):
    """The divergence alone on mixed images, for long schedules (Beyer et al. 2022): patient and consistent.

    Loss: ``weight_kd * T^2 * KL(teacher || student)``. No label enters; teacher and student see the same mixture of
    two images, its share even on 0 to 1. Cannot be combined with other methods.
    """

    needed = ("weight_kd",)
    mixes_images = True

    name: Literal["patient"] = "patient"
    temperature: Temperature = Field(default=1.0, description=TEMPERATURE)
    weight_kd: Weight = Field(default=1.0, description=KD)
    mixup: bool = Field(default=True, description="Mix each image with another; off, only the divergence is left.")


class NoDistillation(SpecModel):
    """Plain cross-entropy with the labels: what the control trains with. Needs no teacher."""

    name: Literal["none"] = "none"
    weight_ce: float = Field(default=1.0, gt=0, le=1000, description=CE)
    views: int = Field(
        default=1,
        ge=1,
        le=2,
        description="2 takes the mean over the usual view and a strongly changed one, as mlkd's control does.",
    )
