"""Following jobs live. One task in the process watches for news; a follower waits without holding a thread."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from anyio import to_thread
from fastapi.sse import format_sse_event
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.db import Database
from app.jobs import schemas
from app.tables import Event, Job
from stillhouse.spec.reasons import TERMINAL

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
_PING_SECONDS = 15.0
_BATCH = 200


@dataclass(eq=False)
class _Follower:
    """One stream: how far it has come, and what wakes it."""

    seq: int
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Tailer:
    """Wakes the followers of a job when it has a new event, or is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: defaultdict[str, set[_Follower]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def follow(self, job_id: str, after_seq: int) -> AsyncIterator[bytes]:
        """Server-sent events from after ``after_seq`` up to the terminal one, with a ping every 15 s."""
        follower = _Follower(after_seq)
        self._followers[job_id].add(follower)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            while True:
                follower.news.clear()
                try:
                    rows = await to_thread.run_sync(self._read, job_id, follower.seq)
                except SQLAlchemyError as error:
                    logger.warning("could not read the events of %s, and will again: %s", job_id, error)
                    yield format_sse_event(comment="the database does not answer")
                    await asyncio.sleep(_LOOK_SECONDS * 4)
                    continue
                if rows is None:
                    return
                for row in rows:
                    follower.seq = row.seq
                    yield format_sse_event(
                        data_str=schemas.event(row).model_dump_json(), event=row.type, id=str(row.seq)
                    )
                    if row.data.get("terminal") is True:
                        return
                if len(rows) == _BATCH:
                    continue
                try:
                    await asyncio.wait_for(follower.news.wait(), _PING_SECONDS)
                except TimeoutError:
                    yield format_sse_event(comment="ping")
        finally:
            self._followers[job_id].discard(follower)
            if not self._followers[job_id]:
                del self._followers[job_id]

    async def close(self) -> None:
        """Look no more, once the last look has ended: its thread holds a connection."""
        self._followers.clear()
        if self._task is not None:
            await self._task

    def _read(self, job_id: str, after_seq: int) -> list[Event] | None:
        """The next events; None when there will be no more: the job is deleted, or its last event was seen before."""
        with self._database.reading() as session:
            status = session.scalar(select(Job.status).where(Job.id == job_id))  # first: events only grow after it
            newer = select(Event).where(Event.job_id == job_id, Event.seq > after_seq)
            rows = list(session.scalars(newer.order_by(Event.seq).limit(_BATCH)))
            over = status is None or (status in TERMINAL and not rows)
            return None if over else rows

    async def _look(self) -> None:
        """Until nobody follows: one query for all that are followed."""
        while self._followers:
            try:
                newest = await to_thread.run_sync(self._newest, list(self._followers))
            except SQLAlchemyError as error:
                logger.warning("could not look for events: %s", error)
            else:
                for job_id, followers in self._followers.items():
                    for follower in followers:
                        if job_id not in newest or newest[job_id] > follower.seq:
                            follower.news.set()
            await asyncio.sleep(_LOOK_SECONDS)

    def _newest(self, job_ids: Iterable[str]) -> dict[str, int]:
        with self._database.reading() as session:
            rows = session.execute(select(Job.id, Job.last_seq).where(Job.id.in_(job_ids)))
            return {row.id: row.last_seq for row in rows}
