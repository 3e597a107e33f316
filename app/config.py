"""Every setting of API and worker, read once from ``STILLHOUSE_*`` and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The embedded default needs none of these; a fleet differs in the URLs alone."""

    model_config = SettingsConfigDict(env_prefix="STILLHOUSE_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=lambda: Path.home() / ".stillhouse",
        description="Scratch, data sets and, embedded, everything else; by default `~/.stillhouse`.",
    )
    datasets_dir: Path | None = Field(
        default=None, description="Where built-in data sets lie; else they are downloaded."
    )
    database_url: str = Field(default="", description="By default SQLite in the data directory.")
    broker_url: str = Field(default="", description="Of Celery's broker; by default a folder in the data directory.")
    storage_url: str = Field(
        default="",
        description="Where files live: `file:///FOLDER` or `s3://BUCKET/PREFIX`; by default a folder in the data "
        "directory.",
    )
    storage_patience_seconds: float = Field(
        default=15, gt=0, description="How long an S3 store that does not answer is asked again."
    )
    storage_public_endpoint: str = Field(
        default="", description="Where clients reach the S3 store, when it is not where the service does."
    )

    heartbeat_seconds: float = Field(default=10, gt=0, description="How often a worker renews its lease.")
    lease_seconds: float = Field(
        default=60, gt=0, description="Without a renewal for so long, the attempt is taken for lost."
    )
    poll_seconds: float = Field(
        default=2, gt=0, description="How often a free worker looks for a job whose message was lost."
    )
    upkeep_seconds: float = Field(default=2, gt=0, description="How often expired leases are looked for.")
    checkpoint_seconds: float = Field(default=30, ge=0, description="Training time between two checkpoints.")
    checkpoint_keep_seconds: float = Field(
        default=7 * 86400, ge=0, description="How long a job that has ended keeps the newest checkpoint of each phase."
    )
    garbage_seconds: float = Field(
        default=3600, gt=0, description="How often files are looked for that nothing names any more."
    )
    stop_grace_seconds: float = Field(
        default=30, gt=0, description="From the request to stop until the child is killed."
    )
    stall_seconds: float = Field(default=600, gt=0, description="Without a sign from the child it is taken for stuck.")
    max_losses: int = Field(
        default=3, ge=1, description="Lost attempts in a row without a new checkpoint that end a job."
    )
    log_limit_bytes: int = Field(default=16 * 2**20, gt=0, description="Output kept of one job.")
    body_limit_bytes: int = Field(default=2**20, gt=0, description="Largest request body.")
    upload_limit_bytes: int = Field(default=64 * 2**30, gt=0, description="Largest file that is taken in.")
    patch_limit_bytes: int = Field(default=8 * 2**30, gt=0, description="Largest piece of an upload in one request.")
    upload_keep_seconds: float = Field(default=86400, gt=0, description="How long an upload waits for its next piece.")
    project_quota_bytes: int = Field(
        default=256 * 2**30, gt=0, description="Uploads, data sets and models of a project together."
    )
    validation_seconds: float = Field(default=6 * 3600, gt=0, description="Longest validation of an upload.")
    validation_memory_bytes: int = Field(
        default=4 * 2**30, gt=0, description="Memory of the child that validates an upload."
    )
    training_memory_bytes: int | None = Field(
        default=None,
        ge=2**26,
        description="Memory of a training child, kept by a cgroup of its own where one can be made: see `doctor`. By "
        "default without a limit.",
    )
    devices: str = Field(
        default="auto",
        pattern=r"^(auto|cpu(:[1-9][0-9]?)?)$",
        description="What a worker trains on: `auto` its GPUs, else its CPU; `cpu`; `cpu:2` so many processes of its "
        "CPU, as if they were GPUs.",
    )
    tables_limit_bytes: int = Field(
        default=32 * 2**30, ge=0, description="View tables kept of all projects together, and of one; 0 keeps none."
    )
    least_free_bytes: int = Field(
        default=256 * 2**20, ge=0, description="A worker with less room in its data directory takes no job."
    )
    worker_forget_seconds: float = Field(
        default=86400, gt=0, description="How long a worker that fell silent stays in the register."
    )
    project_running_limit: int | None = Field(
        default=None, ge=0, description="Jobs of a project that run at once; a project may have its own. Unset: any."
    )
    project_waiting_limit: int | None = Field(
        default=None, ge=0, description="Jobs of a project that wait, queued or paused; more are refused. Unset: any."
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        description="Jobs that ended so long ago are deleted with their files, unless a job that has not ended needs"
        " their student. Unset: never.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="`json` writes one object a line, with the ids of request, job and attempt."
    )
    queues: str = Field(default="default", description="Queues a worker serves, separated by commas.")
    worker_name: str = Field(
        default="", description="Set by `serve` so that it can end the leases of its own dead worker."
    )

    @model_validator(mode="before")
    @staticmethod
    def _defaults_from_data_dir(values: dict[str, object]) -> dict[str, object]:
        data_dir = Path(str(values.get("data_dir") or Path.home() / ".stillhouse")).expanduser().resolve()
        embedded = {
            "database_url": f"sqlite:///{quote(str(data_dir / 'stillhouse.db'))}",
            "broker_url": f"filesystem://{quote(str(data_dir / 'broker'))}",
            "storage_url": (data_dir / "storage").as_uri(),
        }
        return {**values, "data_dir": data_dir, **{key: values.get(key) or url for key, url in embedded.items()}}

    @model_validator(mode="after")
    def _lease_outlasts_heartbeats(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            message = "STILLHOUSE_LEASE_SECONDS must be at least three times STILLHOUSE_HEARTBEAT_SECONDS"
            raise ValueError(f"{message}, else one late heartbeat loses a job")
        return self

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues a worker serves."""
        return tuple(name.strip() for name in self.queues.split(",") if name.strip())
