"""Teacher and student: a named architecture or a list of layers, and where the weights come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from stillhouse.spec.base import SpecModel
from stillhouse.spec.layers import Layer
from stillhouse.spec.training import TeacherTraining

Layers = Annotated[list[Layer], Field(min_length=1, max_length=200)]
Architecture = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        description="A name from /v1/catalog/architectures. After one of timm a tag may choose among its pretrained "
        "weights: timm/resnet50.a1_in1k.",
    ),
]
Stem = Annotated[
    Literal["standard", "small"],
    Field(
        description="small: for images of 64 or less, the first convolution keeps their size (stride 1, and 3x3 where "
        "it was 7x7) and no max pool follows it. Of networks whose first convolution halves the image: the catalog's "
        "entries with small_stem."
    ),
]
InputSize = Annotated[
    int | None,
    Field(
        ge=4,
        le=1024,
        description="Images are resized to this side for this network (bilinear with antialiasing). Left out, it is "
        "the size that the weights were made for or, without weights, the data's own.",
    ),
]
Weights = Annotated[
    str | None,
    Field(
        max_length=64,
        pattern=r"^(pretrained|(mdl|job)_[A-Za-z0-9]+)$",
        description="Where the weights come from: pretrained (of torchvision/ and timm/ architectures), an uploaded "
        "model (mdl_...) or another job's student (job_...). They carry their own input size, mean and deviation. "
        "Left out, training starts from random weights.",
    ),
]

Share = Annotated[float, Field(gt=0, le=1000, description="Of this teacher among several; scaled to add up to 1.")]


class _Named(SpecModel):
    architecture: Architecture
    stem: Stem = "standard"
    input_size: InputSize = None
    weights: Weights = None


class _Layered(SpecModel):
    layers: Layers
    weights: Weights = None

    @model_validator(mode="after")
    def _no_published_weights(self) -> _Layered:
        if self.weights == "pretrained":
            raise ValueError("there are no pretrained weights for a list of layers; name an uploaded model or a job")
        return self


class NamedStudent(_Named):
    """A student of a known architecture. From ``weights`` it starts, and so does its control."""


class LayeredStudent(_Layered):
    """A student given layer by layer. From ``weights`` it starts, and so does its control."""


class NamedTeacher(_Named):
    """A teacher of a known architecture.

    Without ``weights`` it is trained first on the same data. With ``weights`` it is used as it is or, with ``train``,
    fine-tuned first, its last layer replaced where the classes differ. The architecture ``onnx`` is an uploaded ONNX
    file: a black box that is asked for logits, probabilities or their logarithms, whichever it gives. The architecture
    ``logits`` is an uploaded file of such answers, a row for each training image.
    """

    train: TeacherTraining | None = None
    weight: Share = 1.0


class LayeredTeacher(_Layered):
    """A teacher given layer by layer; ``weights`` and ``train`` as for a named one."""

    train: TeacherTraining | None = None
    weight: Share = 1.0


def _shape_of(value: Any) -> str:
    """The variant's tag; no field is called so, or an error's pointer would take the tag for a step."""
    has_layers = "layers" in value if isinstance(value, dict) else hasattr(value, "layers")
    return "layered" if has_layers else "named"


Student = Annotated[
    Annotated[NamedStudent, Tag("named")] | Annotated[LayeredStudent, Tag("layered")], Discriminator(_shape_of)
]
Teacher = Annotated[
    Annotated[NamedTeacher, Tag("named")] | Annotated[LayeredTeacher, Tag("layered")], Discriminator(_shape_of)
]
Teachers = Annotated[
    Annotated[Teacher, Tag("one")] | Annotated[list[Teacher], Field(min_length=1, max_length=8), Tag("several")],
    Discriminator(lambda given: "several" if isinstance(given, list) else "one"),
]
"""One, or several, whose probabilities are averaged by weight."""
Network = NamedStudent | LayeredStudent | NamedTeacher | LayeredTeacher


def training_of(teacher: NamedTeacher | LayeredTeacher) -> TeacherTraining | None:
    """How the teacher is trained first; None when it comes with weights and is used as it is."""
    if teacher.train is None and teacher.weights is None:
        return TeacherTraining()
    return teacher.train


def title(network: Network | list[Teacher]) -> str:
    """The architecture's name, or ``layers(12)`` for a list of twelve; of several teachers, all of them."""
    if isinstance(network, list):
        return " + ".join(title(one) for one in network)
    return (
        network.architecture if isinstance(network, NamedStudent | NamedTeacher) else f"layers({len(network.layers)})"
    )
