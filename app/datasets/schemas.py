"""Data sets: what is asked for, and what is answered."""

from __future__ import annotations

from pydantic import Field
from sqlalchemy.orm import Session

from app import tables
from app.lifecycle import validation
from stillhouse import assets
from stillhouse.spec.base import SpecModel, Text


class DataSetRequest(SpecModel):
    """A data set to be made of an upload."""

    name: Text = Field(min_length=1, max_length=128)
    upload: Text = Field(min_length=1, max_length=64, description="upl_…: an upload that has arrived whole.")
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Side in pixels at which images are kept: short side resized, centre cut out. Without it images "
        "that are all of one size keep it; else the median short side, at most 224.",
    )


def datasets(session: Session, rows: list[tables.DataSet], project: str) -> list[assets.DataSet]:
    """Data sets as a client sees them."""
    jobs = validation.jobs_of(session, list(rows))
    return [_dataset(row, jobs.get(row.job_id), project) for row in rows]


def _dataset(row: tables.DataSet, job: tables.Job | None, project: str) -> assets.DataSet:
    facts = row.facts or {}
    return assets.DataSet(
        id=row.id,
        name=row.name,
        project=project,
        state=validation.state_of(row, job),
        report=validation.report_of(row, job),
        classes=facts.get("classes"),
        shape=facts.get("shape"),
        splits=facts.get("splits"),
        mean=facts.get("mean"),
        std=facts.get("std"),
        sha256=facts.get("sha256"),
        bytes=row.bytes,
        upload=row.upload_id,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
