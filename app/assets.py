"""What data sets and models have in common: made of an upload, validated by a worker, looked up within a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.auth import Caller
from app.db import now, on_commit
from app.dependencies import Services
from app.errors import Invalid, NotFound
from app.ids import Prefix, new_id
from app.lifecycle import uploads, validation
from app.lifecycle.garbage import discard, drop
from app.lifecycle.moves import lock
from app.lifecycle.uses import check_unused
from app.tables import DataSet, Job, Model, Upload
from stillhouse.resources import FieldError

Table = TypeVar("Table", DataSet, Model)


@dataclass(frozen=True)
class Assets(Generic[Table]):
    """The things of one table."""

    table: type[Table]
    prefix: Prefix
    noun: str

    def create(
        self, session: Session, given: Services, caller: Caller, *, name: str, upload: str, declared: Mapping[str, Any]
    ) -> tuple[Table, bool]:
        """Make one of a finished upload, and have it validated: (it, whether it is new).

        The same upload again gives what was made of it. Raises Invalid for an upload that is unknown or not whole.
        """
        row = session.scalar(
            select(Upload).where(Upload.id == upload, Upload.project_id == caller.project_id).with_for_update()
        )
        earlier = self._made_of(session, caller, upload)  # under the upload's lock: another request may be making it
        if earlier is not None:
            return earlier, False
        if row is None:
            raise _invalid(f"no upload {upload}")
        if row.offset != row.length:
            raise _invalid(f"{row.offset:,} of {row.length:,} bytes have arrived; finish the upload first")
        if row.expires_at is None:
            raise _invalid(f"something else is being made of {upload}; upload the file again")
        asset = self.table(
            id=new_id(self.prefix),
            project_id=caller.project_id,
            name=name,
            upload_id=row.id,
            job_id=new_id("val"),
            declared=dict(declared),
            bytes=0,
            created_at=now(session),
        )
        try:
            with session.begin_nested():
                session.add(asset)
                session.flush()
        except IntegrityError:  # another connection made it of the same upload at the same moment
            earlier = self._made_of(session, caller, upload)
            if earlier is None:
                raise
            return earlier, False
        row.expires_at = None
        validation.begin(session, asset)  # workers look for validations by themselves, no bell is rung
        return asset, True

    def _made_of(self, session: Session, caller: Caller, upload: str) -> Table | None:
        return session.scalar(
            select(self.table).where(self.table.upload_id == upload, self.table.project_id == caller.project_id)
        )

    def get(self, session: Session, caller: Caller, asset_id: str) -> Table:
        """One of the caller's project. Raises NotFound, also for another project's."""
        row = session.scalar(
            select(self.table).where(self.table.id == asset_id, self.table.project_id == caller.project_id)
        )
        if row is None:
            raise NotFound(f"no {self.noun} {asset_id}")
        return row

    def find(
        self, session: Session, caller: Caller, *, limit: int, cursor: str | None
    ) -> tuple[list[Table], str | None]:
        """A page, newest first, and the cursor of the next: the last id of this one."""
        statement = select(self.table).where(self.table.project_id == caller.project_id)
        if cursor is not None:
            if not cursor.startswith(f"{self.prefix}_"):
                raise Invalid("the cursor is not one of this list; start again without it", code="invalid_cursor")
            statement = statement.where(self.table.id < cursor)
        rows = list(session.scalars(statement.order_by(self.table.id.desc()).limit(limit + 1)))
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    def delete(self, session: Session, given: Services, caller: Caller, asset_id: str) -> None:
        """Delete one with its files; a validation that still runs is dropped. Raises Conflict while jobs need it."""
        row = self.get(session, caller, asset_id)
        lock(session, row.job_id)  # in the order in which a verdict locks them
        session.refresh(row, with_for_update=True)
        check_unused(session, caller.project_id, asset_id, self.noun)
        for gone in (session.get(Job, row.job_id), session.get(Upload, row.upload_id), row):
            if gone is not None:
                session.delete(gone)
        session.flush()
        self._delete_files(session, given, row)

    def _delete_files(self, session: Session, given: Services, row: Table) -> None:
        """Those of a row that is gone; what others share stays until the last of them goes."""
        owner = row.content_of or row.id
        sharing = list(session.scalars(select(self.table).where(self.table.content_of == owner)))
        folders = [uploads.folder(row.upload_id)]
        if row.content_of is not None:
            folders.append(self.folder(row.id))
        if not sharing and (row.content_of is None or session.get(self.table, owner) is None):
            folders.append(self.folder(owner))
        on_commit(session, partial(discard, given.storage, *folders))
        if sharing and row.content_of is None:
            needed = {file["key"] for other in sharing for file in (other.files or {}).values()}
            own = {file["key"] for file in (row.files or {}).values()}
            on_commit(session, partial(drop, given.storage, sorted(own - needed)))

    def folder(self, asset_id: str) -> str:
        """Below which key its files lie."""
        return f"{self.table.__tablename__}/{asset_id}"


def _invalid(message: str) -> Invalid:
    return Invalid(message, errors=[FieldError(pointer="/upload", code="not_usable", message=message)])
