"""What API and worker both know of an upload: where it lies, what a project may keep, when it is thrown away."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import Database, now, on_commit
from app.errors import StorageError, TooLarge
from app.tables import DataSet, Model, Project, Upload


def path(data_dir: Path, upload_id: str) -> Path:
    """Where the pieces are put together. The id is one that the service made: it was looked up first."""
    return data_dir / "uploads" / upload_id


def content_key(upload_id: str) -> str:
    """Where the whole file lies in the storage, from the request that makes something of it until that is done."""
    return f"uploads/{upload_id}/content"


def create_file(file: Path) -> None:
    """An empty file that only this user may read. Raises StorageError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"cannot create {file}: {error.strerror}; free some space or mend the rights") from error


def check_quota(session: Session, project_id: str, more: int, *, limit: int) -> None:
    """Raise TooLarge when ``more`` bytes would take a project over its quota.

    The project's row stays locked until the transaction ends, so that two requests cannot both take the last room.
    """
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
    used = sum(
        int(session.scalar(select(func.coalesce(func.sum(column), 0)).where(owner == project_id)) or 0)
        for column, owner in (
            (Upload.length, Upload.project_id),
            (DataSet.bytes, DataSet.project_id),
            (Model.bytes, Model.project_id),
        )
    )
    if used + more > limit:
        raise TooLarge(
            f"this project keeps {used:,} bytes of {limit:,} (project_quota_bytes) and {more:,} more do not fit; "
            "delete uploads, data sets or models that are no longer needed",
            code="quota_exceeded",
        )


def expire(database: Database, data_dir: Path) -> int:
    """Throw away the uploads that waited too long for their next piece; how many there were."""
    with database.transaction() as session:
        stale = select(Upload).where(Upload.expires_at < now(session)).limit(100).with_for_update(skip_locked=True)
        rows = list(session.scalars(stale))
        for row in rows:
            session.delete(row)
            on_commit(session, partial(path(data_dir, row.id).unlink, missing_ok=True))
    return len(rows)
