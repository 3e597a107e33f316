"""The job spec: everything a run depends on. A stored spec has every default filled in, so it repeats the job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.spec.base import Label, SpecModel
from stillhouse.spec.methods import KnowledgeDistillation, Method, NoDistillation
from stillhouse.spec.networks import Student, Teacher
from stillhouse.spec.training import Resources, Training


class DatasetRef(SpecModel):
    """Which data set, and how much of its training split is held out to choose the epoch that is served."""

    id: str = Field(
        min_length=1, max_length=64, description="A built-in name from /v1/catalog/datasets, or ds_… of an upload."
    )
    validation: float = Field(default=0.1, ge=0, lt=1, description="0 selects nothing: the last epoch is served.")
    input_size: int | None = Field(
        default=None, ge=8, le=1024, description="Resize the short side to this and cut out the centre; null: as kept."
    )


class JobSpec(SpecModel):
    """One distillation job."""

    name: str = Field(default="distillation", min_length=1, max_length=128)
    dataset: DatasetRef
    teacher: Teacher | None = Field(default=None, description="Needed by every method but 'none'.")
    student: Student
    method: Method = Field(default_factory=KnowledgeDistillation)
    training: Training = Field(default_factory=Training)
    control: bool = Field(
        default=True, description="Also train the same student without a teacher, from the same weights."
    )
    export: list[Literal["safetensors"]] = Field(default=["safetensors"], min_length=1, max_length=8)
    resources: Resources = Field(default_factory=Resources)
    tags: list[Label] = Field(default=[], max_length=32)
    metadata: dict[Label, Annotated[str, Field(max_length=512)]] = Field(default={}, max_length=32)

    @model_validator(mode="after")
    def _teacher_fits_method(self) -> JobSpec:
        if isinstance(self.method, NoDistillation):
            if self.teacher is not None:
                raise ValueError("method 'none' uses no teacher; leave teacher out or choose 'kd'")
        elif self.teacher is None:
            raise ValueError(
                f"method '{self.method.name}' needs a teacher; name one, such as teacher: {{architecture: resnet20}}"
            )
        return self

    def complete(self) -> JobSpec:
        """The same spec with every omitted value written out, as it is stored."""
        if self.teacher is None:
            return self
        train = self.teacher.train.filled_from(self.training)
        return self.model_copy(update={"teacher": self.teacher.model_copy(update={"train": train})})
