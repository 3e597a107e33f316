"""Teacher and student: a named architecture or a list of layers, and where the weights come from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from stillhouse.spec.base import SpecModel
from stillhouse.spec.layers import Layer
from stillhouse.spec.training import TeacherTraining

Layers = Annotated[list[Layer], Field(min_length=1, max_length=200)]
Architecture = Annotated[str, Field(min_length=1, max_length=128, description="A name from /v1/catalog/architectures.")]


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


class LayeredTeacher(SpecModel):
    """A teacher given layer by layer, trained first on the same data."""

    layers: Layers
    train: TeacherTraining = Field(default_factory=TeacherTraining)


def _shape_of(value: Any) -> str:
    has_layers = "layers" in value if isinstance(value, dict) else hasattr(value, "layers")
    return "layers" if has_layers else "architecture"


Student = Annotated[
    Annotated[NamedStudent, Tag("architecture")] | Annotated[LayeredStudent, Tag("layers")], Discriminator(_shape_of)
]
Teacher = Annotated[
    Annotated[NamedTeacher, Tag("architecture")] | Annotated[LayeredTeacher, Tag("layers")], Discriminator(_shape_of)
]
Network = NamedStudent | LayeredStudent | NamedTeacher | LayeredTeacher


def title(network: Network) -> str:
    """The architecture's name, or ``layers(12)`` for a list of twelve."""
    return (
        network.architecture if isinstance(network, NamedStudent | NamedTeacher) else f"layers({len(network.layers)})"
    )
