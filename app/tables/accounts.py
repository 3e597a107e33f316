"""Projects, and the keys that speak for them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class Project(Base):
    """A tenant: every job belongs to one, and nobody sees another's."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    running_limit: Mapped[int | None]
    """Jobs of it that may run at once; null is the installation's own limit, 0 is none."""
    waiting_limit: Mapped[int | None]
    """Jobs of it that may wait, queued or paused."""
    storage_limit_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Its uploads, data sets and models together."""
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A bearer key, of which only the hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    prefix: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
