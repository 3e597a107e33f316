"""Models: what is asked for, and what is answered."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from app import tables
from app.lifecycle import validation
from stillhouse import assets
from stillhouse.spec.base import SpecModel, Text

Mean = Annotated[list[Annotated[float, Field(ge=-10, le=10)]], Field(min_length=1, max_length=4)]
Std = Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(min_length=1, max_length=4)]
ClassName = Annotated[str, Field(min_length=1, max_length=128)]


class ModelRequest(SpecModel):
    """A model to be made of an upload, with what a file of weights does not say of itself."""

    name: Text = Field(min_length=1, max_length=128)
    upload: Text = Field(min_length=1, max_length=64, description="upl_…: an upload that has arrived whole.")
    architecture: str = Field(min_length=1, max_length=128, description="A name from /v1/catalog/architectures.")
    classes: list[ClassName] = Field(min_length=2, max_length=100_000, description="Names in the order of the outputs.")
    mean: Mean = Field(description="Of each channel, for pixels from 0 to 1.")
    std: Std = Field(description="Of each channel, for pixels from 0 to 1.")
    input_size: int = Field(ge=4, le=1024, description="Side in pixels of the images it was trained on.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.mean) != len(self.std):
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
        sha256=row.files["model.safetensors"]["sha256"] if row.files else None,
        bytes=row.bytes,
        upload=row.upload_id,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
