"""A job and what hangs on it. The row is the truth; a broker's message is a doorbell."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base
from stillhouse.spec import Status

JOB = "jobs.id"
Kind = Literal["distillation", "validation"]


class Job(Base):
    """One distillation job."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_claim", "kind", "status", "queue", "priority", "created_at"),
        Index("ix_jobs_project_list", "project_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    kind: Mapped[Kind] = mapped_column(String(16), default="distillation", server_default="distillation")
    """A validation has no page of its own: people see it as the state of their data set or model."""
    name: Mapped[str] = mapped_column(String(128))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    queue: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    gpus: Mapped[int] = mapped_column(default=0, server_default="0")
    """Devices that a worker must have to take it: the spec's. 0 is any worker."""
    retry_of: Mapped[str | None] = mapped_column(String(40))

    status: Mapped[Status] = mapped_column(String(16))
    stage: Mapped[str | None] = mapped_column(String(32))
    status_reason: Mapped[str | None] = mapped_column(String(32))
    status_detail: Mapped[str | None] = mapped_column(Text)
    stop_reason: Mapped[str | None] = mapped_column(String(32))
    """Why a worker was asked to stop; decides where a cancelling or pausing job ends up."""
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Device, precision and threads of the first attempt: what later attempts must repeat to give the same bits."""

    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    """Attempts that died without a new checkpoint; those that an outage ended are not among them."""
    not_before: Mapped[datetime | None]
    lease_token: Mapped[str | None] = mapped_column(String(40))
    lease_owner: Mapped[str | None] = mapped_column(String(128), index=True)
    lease_expires_at: Mapped[datetime | None] = mapped_column(index=True)
    last_seq: Mapped[int] = mapped_column(default=0)
    """The newest event's number; raised under this row's lock, so events have no gap."""
    log_bytes: Mapped[int] = mapped_column(default=0)
    run_seconds: Mapped[float] = mapped_column(default=0.0)
    """Time spent in attempts that have ended."""

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)


class JobLabel(Base):
    """A tag (its key is empty) or a metadata pair, for filters."""

    __tablename__ = "job_labels"

    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(512), primary_key=True, index=True)


class IdempotencyKey(Base):
    """Written in the same transaction as the job it made."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]


class Attempt(Base):
    """One try at a job; its number is the fencing token's visible half."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str] = mapped_column(String(128))
    host: Mapped[str] = mapped_column(String(255))
    devices: Mapped[list[str]] = mapped_column(JSON)
    pid: Mapped[int | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    exit: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(String(32))
    resumed_from: Mapped[str | None] = mapped_column(String(40))


class Event(Base):
    """What happened, in order: the log that the event stream reads."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    type: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int]
    created_at: Mapped[datetime]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class MetricPoint(Base):
    """One value of one metric; a replay after a resume writes the same row again."""

    __tablename__ = "metric_points"

    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[float]
    value: Mapped[float | None]


class LogChunk(Base):
    """A piece of the children's output, where it starts in the job's log."""

    __tablename__ = "log_chunks"

    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    text: Mapped[str] = mapped_column(Text)


class Checkpoint(Base):
    """A stored state of one phase of the training."""

    __tablename__ = "checkpoints"
    __table_args__ = (Index("ix_checkpoints_resume", "job_id", "phase", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"))
    attempt: Mapped[int]
    phase: Mapped[str] = mapped_column(String(32))
    complete: Mapped[bool]
    epoch: Mapped[int]
    step: Mapped[int]
    key: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]


class Artifact(Base):
    """A published file."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JOB, ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(128))
    key: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str] = mapped_column(String(128))
