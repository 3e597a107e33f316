"""Models: what is asked for, and what is answered."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from app import tables
from app.lifecycle import validation
from stillhouse import assets
from stillhouse.spec.base import SpecModel, Text
from stillhouse.spec.footprints import LOGITS

Mean = Annotated[list[Annotated[float, Field(ge=-10, le=10)]], Field(min_length=1, max_length=4)]
Std = Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(min_length=1, max_length=4)]
InputSize = Annotated[int, Field(ge=4, le=1024)]
ClassName = Annotated[str, Field(min_length=1, max_length=128)]


class ModelRequest(SpecModel):
    """A model to be made of an upload, with what a file of weights does not say of itself.

    ``mean``, ``std`` and ``input_size`` are needed of every network, and left out of a file of ``logits``.
    """

    name: Text = Field(min_length=1, max_length=128)
    upload: Text = Field(min_length=1, max_length=64, description="upl_…: an upload that has arrived whole.")
    architecture: str = Field(
        min_length=1,
        max_length=128,
        description="A name from /v1/catalog/architectures; onnx; or logits: outputs for each training image.",
    )
    classes: list[ClassName] = Field(min_length=2, max_length=100_000, description="Names in the order of the outputs.")
    mean: Mean | None = Field(
        default=None, validate_default=True, description="Of each channel, for pixels from 0 to 1."
    )
    std: Std | None = Field(default=None, validate_default=True, description="Of each channel, for pixels from 0 to 1.")
    input_size: InputSize | None = Field(
        default=None, validate_default=True, description="Side in pixels of the images it was trained on."
    )
    dataset: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Measure its accuracy on this set's test split: a built-in name, or ds_… of one that is ready. The "
        "report then has `accuracy`, and `warnings` where another preprocessing would suit the model better.",
    )

    @field_validator("mean", "std", "input_size")
    @classmethod
    def _goes_with_a_network(cls, value: object, info: ValidationInfo) -> object:
        architecture = info.data.get("architecture")
        if value is None and architecture not in (None, LOGITS):
            raise PydanticCustomError("missing", "needed of every network, which expects its images prepared so")
        if value is not None and architecture == LOGITS:
            raise ValueError("a file of logits is shown no images; leave this out")
        return value

    @field_validator("dataset")
    @classmethod
    def _can_be_measured(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("architecture") == LOGITS:
            raise ValueError("a file of logits cannot be shown other images; leave this out")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give as many of each")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        return self


def models(session: Session, rows: list[tables.Model], project: str) -> list[assets.Model]:
    """Models as a client sees them."""
    jobs = validation.jobs_of(session, list(rows))
    return [_model(row, jobs.get(row.job_id), project) for row in rows]


def _model(row: tables.Model, job: tables.Job | None, project: str) -> assets.Model:
    facts = row.facts or {}
    return assets.Model(
        id=row.id,
        name=row.name,
        project=project,
        state=validation.state_of(row, job),
        report=validation.report_of(row, job),
        architecture=row.declared["architecture"],
        classes=row.declared["classes"],
        input=facts.get("input"),
        parameters=facts.get("parameters"),
        rows=facts.get("rows"),
        sha256=next((file["sha256"] for name, file in (row.files or {}).items() if not name.endswith(".json")), None),
        bytes=row.bytes,
        upload=row.upload_id,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
