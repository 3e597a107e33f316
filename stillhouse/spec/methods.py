"""The methods a job may ask for. Each is what the student imitates, with its own bounded fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.spec.base import SpecModel

Weight = Annotated[float, Field(ge=0, le=1000)]


class KnowledgeDistillation(SpecModel):
    """Soft targets at a temperature (Hinton, Vinyals, Dean 2015, eq. 2 to 4).

    Loss: ``weight_ce * CE(student, labels) + weight_kd * T^2 * KL(teacher || student)``, both batch means.
    """

    name: Literal["kd"] = "kd"
    temperature: float = Field(default=4.0, gt=0, le=100, description="Divides the logits of teacher and student.")
    weight_ce: Weight = Field(default=0.1, description="Weight of the cross-entropy with the labels.")
    weight_kd: Weight = Field(
        default=0.9, description="Weight of the divergence from the teacher, times temperature squared."
    )

    @model_validator(mode="after")
    def _imitates_something(self) -> KnowledgeDistillation:
        if self.weight_kd == 0:
            raise ValueError("weight_kd is 0, so nothing would be distilled; use the method 'none' for plain training")
        return self


class NoDistillation(SpecModel):
    """Plain cross-entropy with the labels: what the control trains with. Needs no teacher."""

    name: Literal["none"] = "none"
    weight_ce: float = Field(default=1.0, gt=0, le=1000, description="Weight of the cross-entropy with the labels.")


Method = Annotated[KnowledgeDistillation | NoDistillation, Field(discriminator="name")]

METHODS: dict[str, type[SpecModel]] = {"kd": KnowledgeDistillation, "none": NoDistillation}
"""Every method of the contract by its name; a test holds it against the engine's."""
