"""Following jobs live. One task in the process watches for news; a follower waits without holding a thread."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable

from anyio import to_thread
from fastapi.sse import format_sse_event
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.db import Database
from app.jobs import schemas
from app.tables import Event, Job

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
_PING_SECONDS = 15.0
_BATCH = 200


class Tailer:
    """Wakes the followers of a job when it has a new event."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def follow(self, job_id: str, after_seq: int) -> AsyncIterator[bytes]:
        """Server-sent events from after ``after_seq`` up to the terminal one, with a ping every 15 s."""
        news = asyncio.Event()
        self._followers[job_id].add(news)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            while True:
                news.clear()
                rows = await to_thread.run_sync(self._read, job_id, after_seq)
                if rows is None:
                    return  # deleted
                for row in rows:
                    after_seq = row.seq
                    yield format_sse_event(
                        data_str=schemas.event(row).model_dump_json(), event=row.type, id=str(row.seq)
                    )
                    if row.data.get("terminal") is True:
                        return
                if len(rows) == _BATCH:
                    continue
                try:
                    await asyncio.wait_for(news.wait(), _PING_SECONDS)
                except TimeoutError:
                    yield format_sse_event(comment="ping")
        finally:
            self._followers[job_id].discard(news)
            if not self._followers[job_id]:
                del self._followers[job_id]

    def _read(self, job_id: str, after_seq: int) -> list[Event] | None:
        with self._database.reading() as session:
            if session.get(Job, job_id) is None:
                return None
            newer = select(Event).where(Event.job_id == job_id, Event.seq > after_seq)
            return list(session.scalars(newer.order_by(Event.seq).limit(_BATCH)))

    async def _look(self) -> None:
        """Until nobody follows: one query for all that are followed."""
        seen: dict[str, int] = {}
        while self._followers:
            try:
                newest = await to_thread.run_sync(self._newest, list(self._followers))
            except SQLAlchemyError as error:
                logger.warning("could not look for events: %s", error)
                newest = seen
            for job_id in list(self._followers):
                if newest.get(job_id) != seen.get(job_id):
                    for news in self._followers[job_id]:
                        news.set()
            seen = newest
            await asyncio.sleep(_LOOK_SECONDS)

    def _newest(self, job_ids: Iterable[str]) -> dict[str, int]:
        with self._database.reading() as session:
            rows = session.execute(select(Job.id, Job.last_seq).where(Job.id.in_(job_ids)))
            return {row.id: row.last_seq for row in rows}
