"""What API and worker both know of an upload: its parts, what a project may keep, when it is thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import Database, now, on_commit
from app.errors import TooLarge
from app.lifecycle.garbage import discard
from app.storage import Storage
from app.tables import DataSet, Model, Project, Upload, UploadPart


def folder(upload_id: str) -> str:
    """Below which key its parts lie in the storage, until something has been made of it."""
    return f"uploads/{upload_id}"


def parts(session: Session, upload_id: str) -> list[UploadPart]:
    """What has arrived, in order."""
    return list(
        session.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.offset))
    )


def stored_bytes(session: Session, project_ids: Sequence[str]) -> dict[str, int]:
    """What each of these projects keeps: uploads, data sets and models."""
    kept = dict.fromkeys(project_ids, 0)
    for column, owner in (
        (Upload.length, Upload.project_id),
        (DataSet.bytes, DataSet.project_id),
        (Model.bytes, Model.project_id),
    ):
        rows = session.execute(select(owner, func.sum(column)).where(owner.in_(project_ids)).group_by(owner))
        for project_id, total in rows:
            kept[project_id] += int(total)
    return kept


def check_quota(session: Session, project_id: str, more: int, *, limit: int) -> None:
    """Raise TooLarge when ``more`` bytes would take a project over its quota: its own, else ``limit``.

    The project's row stays locked until the transaction ends, so that two requests cannot both take the last room.
    """
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
    own = session.scalar(select(Project.storage_limit_bytes).where(Project.id == project_id))
    limit = limit if own is None else own
    used = stored_bytes(session, [project_id])[project_id]
    if used + more > limit:
        raise TooLarge(
            f"this project keeps {used:,} bytes of {limit:,} (project_quota_bytes) and {more:,} more do not fit; "
            "delete uploads, data sets or models that are no longer needed",
            code="quota_exceeded",
        )


def expire(database: Database, storage: Storage) -> int:
    """Throw away the uploads that waited too long for their next piece; how many there were."""
    with database.transaction() as session:
        stale = select(Upload).where(Upload.expires_at < now(session)).limit(100).with_for_update(skip_locked=True)
        rows = list(session.scalars(stale))
        for row in rows:
            session.delete(row)
            on_commit(session, partial(discard, storage, folder(row.id)))
    return len(rows)
