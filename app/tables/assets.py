"""What people bring: uploads on their way in, and the data sets and models that a validation makes of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base

PROJECT = "projects.id"


class Upload(Base):
    """A file that arrives in pieces. It is gone once a validation has made something of it, or refused it."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey(PROJECT, ondelete="CASCADE"), index=True)
    length: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes that have safely arrived: stored as parts before they are counted here."""
    upload_metadata: Mapped[str] = mapped_column(String(4096), default="")
    """The Upload-Metadata header as it came."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    """When an unused upload is thrown away; null once something is to be made of it."""


class UploadPart(Base):
    """A file in the storage that holds the next bytes of an upload. What has no row here never arrived."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))


class Validated:
    """The columns of what a validation decides about. The verdict's two halves, ``accepted`` and ``report``, are
    written together in one fenced transaction; until then the state is that of the validation's job."""

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey(PROJECT, ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(128))
    upload_id: Mapped[str] = mapped_column(String(40), unique=True)
    job_id: Mapped[str] = mapped_column(String(40), index=True)
    """Of the validation: a job of its own kind."""
    declared: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What the person said about the file."""
    accepted: Mapped[bool | None]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What jobs need to know of it: a data set's shape, classes and splits; a model's description."""
    files: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """By file name: key, bytes and sha256 of what is kept."""
    content_of: Mapped[str | None] = mapped_column(String(40), index=True)
    """Below whose key the files lie that another one of the project had brought before, byte for byte."""
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class DataSet(Validated, Base):
    """An uploaded data set."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_project_list", "project_id", "id"),)


class Model(Validated, Base):
    """An uploaded network's weights."""

    __tablename__ = "models"
    __table_args__ = (Index("ix_models_project_list", "project_id", "id"),)
