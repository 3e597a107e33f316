"""Teacher and student: a named architecture or a list of layers, and where the weights come from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from stillhouse.spec.base import SpecModel
from stillhouse.spec.layers import Layer
from stillhouse.spec.training import TeacherTraining

Layers = Annotated[list[Layer], Field(min_length=1, max_length=200)]
Architecture = Annotated[str, Field(min_length=1, max_length=128, description="A name from /v1/catalog/architectures.")]

Share = Annotated[float, Field(gt=0, le=1000, description="Of this teacher among several; scaled to add up to 1.")]


class NamedStudent(SpecModel):
    """A student of a known architecture."""

    architecture: Architecture


class LayeredStudent(SpecModel):
    """A student given layer by layer."""

    layers: Layers


class NamedTeacher(SpecModel):
    """A teacher of a known architecture, trained first on the same data."""

    architecture: Architecture
    train: TeacherTraining = Field(default_factory=TeacherTraining)
    weight: Share = 1.0


class LayeredTeacher(SpecModel):
    """A teacher given layer by layer, trained first on the same data."""

    layers: Layers
    train: TeacherTraining = Field(default_factory=TeacherTraining)
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


def title(network: Network | list[Teacher]) -> str:
    """The architecture's name, or ``layers(12)`` for a list of twelve; of several teachers, all of them."""
    if isinstance(network, list):
        return " + ".join(title(one) for one in network)
    return (
        network.architecture if isinstance(network, NamedStudent | NamedTeacher) else f"layers({len(network.layers)})"
    )
