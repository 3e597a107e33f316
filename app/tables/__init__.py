"""Every table, in one flat package that API, worker and migrations share. A *model* here is always a network."""

from __future__ import annotations

from app.tables.accounts import ApiKey, Project
from app.tables.assets import DataSet, Model, Upload, UploadPart, Validated
from app.tables.base import Base
from app.tables.fleet import Outcome, Worker
from app.tables.jobs import (
    Artifact,
    Attempt,
    Checkpoint,
    Event,
    IdempotencyKey,
    Job,
    JobLabel,
    Kind,
    LogChunk,
    MetricPoint,
)

__all__ = [
    "ApiKey",
    "Artifact",
    "Attempt",
    "Base",
    "Checkpoint",
    "DataSet",
    "Event",
    "IdempotencyKey",
    "Job",
    "JobLabel",
    "Kind",
    "LogChunk",
    "MetricPoint",
    "Model",
    "Outcome",
    "Project",
    "Upload",
    "UploadPart",
    "Validated",
    "Worker",
]
