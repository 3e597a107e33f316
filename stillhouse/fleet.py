"""What the REST API answers about the installation itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from stillhouse.resources import Resource

WorkerState = Literal["ready", "draining", "unfit"]


class Worker(Resource):
    """A worker as it last described itself."""

    object: Literal["worker"] = "worker"
    id: str
    name: str
    host: str
    pid: int
    devices: list[str]
    memory_bytes: int
    versions: dict[str, str]
    queues: list[str]
    state: WorkerState = Field(description="Only one that is ready takes jobs.")
    reason: str | None = Field(None, description="Why it is not ready.")
    live: bool = Field(description="Whether it has been heard of for as long as a lease lasts.")
    running: int = Field(description="Jobs and validations it holds now.")
    started_at: datetime
    heartbeat_at: datetime
