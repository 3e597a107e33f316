"""Who works, and how attempts ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base
from stillhouse.fleet import WorkerState


class Worker(Base):
    """A worker as it last described itself. Nothing is decided by this row: who holds a job is on the job's."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    devices: Mapped[list[str]] = mapped_column(JSON)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    versions: Mapped[dict[str, Any]] = mapped_column(JSON)
    queues: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[WorkerState] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime] = mapped_column(index=True)


class Outcome(Base):
    """How many attempts ended so. Counted as they end, since attempts go with their job when it is deleted."""

    __tablename__ = "attempt_outcomes"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32), primary_key=True)
    """``succeeded``, or the attempt's reason."""
    attempts: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
