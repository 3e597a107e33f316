"""Files that nothing needs any more, and rows of checkpoints that nobody resumes from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from app.db import Database, now, on_commit
from app.errors import StorageError
from app.storage import Found, Storage
from app.tables import Artifact, Checkpoint, DataSet, Job, Model, UploadPart
from stillhouse.spec.reasons import TERMINAL

logger = logging.getLogger(__name__)

GRACE = timedelta(days=1)
"""A file without a row may be one whose row is about to be written; so old none is."""
_FOLDERS = ("uploads", "datasets", "models", "jobs", "health")
_PAGE = 500


def discard(storage: Storage, *prefixes: str) -> None:
    """Delete what lies below ``prefixes``, whose rows are gone. What cannot be deleted now ``collect`` finds later."""
    for prefix in prefixes:
        try:
            storage.delete_prefix(prefix)
        except (StorageError, OSError) as error:
            logger.warning("the files below %s will be deleted later: %s", prefix, error)


def drop(storage: Storage, keys: Sequence[str]) -> None:
    """The same for single files."""
    if keys:
        try:
            storage.delete(*keys)
        except (StorageError, OSError) as error:
            logger.warning("%d files will be deleted later: %s", len(keys), error)


def expire_checkpoints(database: Database, storage: Storage, *, keep_seconds: float) -> int:
    """Of a job that has ended keep each phase's newest checkpoint, which holds the last state and the best one.

    After ``keep_seconds`` that one goes too: a job that has ended is never resumed. How many went.
    """
    newer = aliased(Checkpoint)
    with database.transaction() as session:
        long_ago = now(session) - timedelta(seconds=keep_seconds)
        followed = select(newer.id).where(
            newer.job_id == Checkpoint.job_id, newer.phase == Checkpoint.phase, newer.id > Checkpoint.id
        )
        stale = (
            select(Checkpoint)
            .join(Job, Job.id == Checkpoint.job_id)
            .where(Job.status.in_(TERMINAL), or_(Job.finished_at < long_ago, followed.exists()))
            .limit(100)
            .with_for_update(skip_locked=True, of=Checkpoint)
        )
        rows = list(session.scalars(stale))
        for row in rows:
            session.delete(row)
        keys = [row.key for row in rows]
        on_commit(session, lambda: drop(storage, keys))
    return len(rows)


def collect(database: Database, storage: Storage, *, grace: timedelta = GRACE) -> int:
    """Delete the files that no row names: what attempts left that never published, what could not be deleted then.

    Any number of processes may do so at once. How many files went. Raises StorageError.
    """
    dropped = 0
    for folder in _FOLDERS:
        for page in _pages(storage.find(folder)):
            with database.reading() as session:
                orphans = _orphans(session, page, before=now(session) - grace)
            drop(storage, orphans)
            dropped += len(orphans)
    if dropped:
        logger.info("%d files that no row names were deleted", dropped)
    return dropped


def _pages(found: Iterable[Found]) -> Iterator[list[Found]]:
    remaining = iter(found)
    while page := list(islice(remaining, _PAGE)):
        yield page


def _orphans(session: Session, page: Sequence[Found], *, before: datetime) -> list[str]:
    keys = [found.key for found in page if found.modified < before]
    named: set[str] = set()
    for column in (Artifact.key, Checkpoint.key, UploadPart.key):
        named.update(session.scalars(select(column).where(column.in_(keys))))
    owners = {key.split("/")[1] for key in keys}
    unfinished = set(session.scalars(select(Job.id).where(Job.id.in_(owners), Job.status.not_in(TERMINAL))))
    assets: list[DataSet | Model] = [
        *session.scalars(select(DataSet).where(or_(DataSet.id.in_(owners), DataSet.content_of.in_(owners)))),
        *session.scalars(select(Model).where(or_(Model.id.in_(owners), Model.content_of.in_(owners)))),
    ]
    for asset in assets:
        named.update(file["key"] for file in (asset.files or {}).values())
    unfinished.update(asset.id for asset in assets if asset.accepted is None)
    return [key for key in keys if key not in named and key.split("/")[1] not in unfinished]
