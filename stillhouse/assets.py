"""What the REST API answers with about files that people bring: uploads, data sets, models."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from stillhouse.resources import Resource


class Upload(Resource):
    """A file on its way in."""

    object: Literal["upload"] = "upload"
    id: str
    length: int
    offset: int = Field(description="Bytes that have safely arrived.")
    created_at: datetime
    expires_at: datetime | None = None


class Validated(Resource):
    """What is made of an upload, once a worker has looked into it."""

    id: str
    name: str
    project: str
    state: Literal["pending", "validating", "ready", "rejected"]
    report: dict[str, Any] | None = Field(None, description="What was found; ``problems`` says why it was rejected.")
    classes: list[str] | None = None
    sha256: str | None = None
    bytes: int = Field(description="Of what is kept.")
    upload: str
    created_at: datetime
    finished_at: datetime | None = None


class DataSet(Validated):
    """An uploaded data set; a job names it by its id."""

    object: Literal["dataset"] = "dataset"
    shape: list[int] | None = Field(None, description="Channels, height, width of one image.")
    splits: dict[str, int] | None = Field(None, description="Images in train, validation and test, as uploaded.")
    mean: list[float] | None = None
    std: list[float] | None = None


class Model(Validated):
    """An uploaded network; a job names it by its id."""

    object: Literal["model"] = "model"
    architecture: str
    input: dict[str, Any] | None = Field(None, description="shape [C, H, W], mean and std.")
    parameters: int | None = None
    rows: dict[str, int] | None = Field(None, description="Of a file of logits, by split.")
