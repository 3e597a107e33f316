"""What the REST API answers about projects."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from stillhouse.resources import Resource


class Limits(Resource):
    """How much a project may have."""

    running: int | None = Field(description="Jobs that run at once; more wait. 0 suspends the project.")
    waiting: int | None = Field(description="Jobs that wait, queued or paused; more are refused.")
    storage_bytes: int | None = Field(description="Uploads, data sets and models together.")


class Usage(Resource):
    """How much of it a project has now."""

    running: int
    waiting: int
    storage_bytes: int


class Project(Resource):
    """A tenant: jobs, data sets, models and keys belong to one."""

    object: Literal["project"] = "project"
    id: str
    name: str
    limits: Limits = Field(description="The project's own; null is the installation's.")
    in_force: Limits = Field(description="What counts: its own, else the installation's; null is any number.")
    usage: Usage
    created_at: datetime
