"""How a network is trained: optimizer, schedule, budget."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.spec.base import Duration, QueueName, SpecModel

LearningRate = Annotated[float, Field(gt=0, le=100, description="Base learning rate.")]
Decay = Annotated[float, Field(ge=0, le=1, description="Weight decay.")]
Beta = Annotated[float, Field(ge=0, lt=1, description="Decay of a running mean of gradients or of their squares.")]
Epochs = Annotated[int, Field(ge=1, le=100_000, description="Passes over the training split.")]
BatchSize = Annotated[int, Field(ge=2, le=65_536, description="Images of one step.")]
Augmentation = Annotated[
    Literal["none", "crop", "crop-flip"],
    Field(description="crop pads by an eighth of the side and cuts at random; crop-flip also mirrors every other."),
]


class SGD(SpecModel):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: LearningRate = 0.05
    momentum: Beta = 0.9
    weight_decay: Decay = 5e-4
    nesterov: bool = False


class Adam(SpecModel):
    """Kingma, Ba (2015)."""

    name: Literal["adam"] = "adam"
    lr: LearningRate = 1e-3
    beta1: Beta = 0.9
    beta2: Beta = 0.999
    weight_decay: Decay = 0.0


class AdamW(SpecModel):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: LearningRate = 1e-3
    beta1: Beta = 0.9
    beta2: Beta = 0.999
    weight_decay: Decay = 0.01


Optimizer = Annotated[SGD | Adam | AdamW, Field(discriminator="name")]


class Constant(SpecModel):
    """The base learning rate throughout."""

    name: Literal["constant"] = "constant"


class MultiStep(SpecModel):
    """The learning rate is multiplied by ``gamma`` after each milestone epoch."""

    name: Literal["multistep"] = "multistep"
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default=[150, 180, 210], min_length=1, max_length=100)
    gamma: float = Field(default=0.1, gt=0, le=1)

    @model_validator(mode="after")
    def _ascending(self) -> MultiStep:
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError("milestones must ascend, each named once")
        return self


class Cosine(SpecModel):
    """From the base learning rate to ``final_fraction`` of it along half a cosine, after a linear warm-up."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: int = Field(default=0, ge=0, le=10_000)
    final_fraction: float = Field(default=0.0, ge=0, le=1)


Schedule = Annotated[Constant | MultiStep | Cosine, Field(discriminator="name")]


class Training(SpecModel):
    """The budget of the student, and of the control, which gets the same one."""

    epochs: Epochs = 240
    batch_size: BatchSize = 64
    optimizer: Optimizer = Field(default_factory=SGD)
    schedule: Schedule = Field(default_factory=Constant)
    augmentation: Augmentation = "none"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="auto is bf16 on GPUs that have it, and on CPUs that have it for students of some size without "
        "convolutions by channels; else fp32. Reported figures are fp32 always.",
    )
    sync_batchnorm: bool = Field(
        default=False, description="Of several GPUs: batch norm counts over all, not in each one's part of the batch."
    )
    compile: bool = Field(
        default=False,
        description="Have torch compile the trained networks' passes (torch.compile; CUDA graphs on a GPU). Starting "
        "takes half a minute to many; the worker needs a C++ compiler. The bytes are other than without, and as "
        "repeatable.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Every random number follows from it.")
    seeds: int = Field(
        default=1, ge=1, le=64, description="Repeats student and control; mean and deviation are reported."
    )
    generations: int = Field(
        default=1,
        ge=1,
        le=8,
        description="Born-again networks (Furlanello et al. 2018): each generation's student teaches the next, which "
        "starts from new weights; the last one is served. Meant for a student like its teacher.",
    )

    @model_validator(mode="after")
    def _synchronised_or_compiled(self) -> Training:
        if self.compile and self.sync_batchnorm:
            raise ValueError("compile and sync_batchnorm exclude each other; turn one of them off")
        return self


class TeacherTraining(SpecModel):
    """How the teacher is trained first; what is omitted comes from ``training``."""

    epochs: Epochs | None = None
    batch_size: BatchSize | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    augmentation: Augmentation | None = None

    def over(self, training: Training) -> Training:
        """``training`` with what is given here in its place."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        return training.model_copy(update=given)

    def filled_from(self, training: Training) -> TeacherTraining:
        """The same with every omitted field taken from ``training``."""
        budget = self.over(training)
        return TeacherTraining(**{name: getattr(budget, name) for name in type(self).model_fields})


class Resources(SpecModel):
    """What the job may use, and where it waits."""

    gpus: int = Field(
        default=1,
        ge=0,
        le=16,
        description="GPUs of one machine, each with its part of every batch; only a worker with so many takes the "
        "job. A worker without a GPU has its CPU for one; 0 trains on the CPU.",
    )
    queue: QueueName = Field(default="default", description="Letters (a to z, A to Z), digits, `_` and `-`.")
    priority: int = Field(default=0, ge=-100, le=100, description="Higher is claimed first.")
    max_runtime: Duration | None = Field(
        default=None, description="Of all attempts together, in seconds or as 6h; null is no limit."
    )
