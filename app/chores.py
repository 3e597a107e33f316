"""The upkeep: what any API process does over and over. Every write is guarded, so any number of loops may run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.dependencies import Services
from app.errors import StorageError
from app.lifecycle import garbage, retention
from app.lifecycle.fleet import forget, unserved
from app.lifecycle.upkeep import sweep
from app.lifecycle.uploads import expire
from app.queue import sweep_drafts

logger = logging.getLogger(__name__)

_SLOW_SECONDS = 60.0
"""Between two rounds of what nobody waits for."""
_STALE_DRAFT_SECONDS = 600.0


@dataclass(frozen=True)
class Chore:
    """Something to be done every so many seconds."""

    name: str
    every: float
    do: Callable[[], object]


async def keep_up(given: Services, stopping: asyncio.Event) -> None:
    """Until the end. What is down is met with patience, and one failed chore does not keep the next."""
    due: dict[str, float] = {}
    while not stopping.is_set():
        for chore in chores(given):
            if time.monotonic() < due.get(chore.name, float("-inf")):
                continue
            due[chore.name] = time.monotonic() + chore.every
            try:
                await to_thread.run_sync(chore.do)
            except (SQLAlchemyError, StorageError) as error:
                logger.warning("the upkeep could not %s, and tries again: %s", chore.name, error)
            except Exception:
                logger.exception("the upkeep could not %s, and tries again", chore.name)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), given.settings.upkeep_seconds)


def chores(given: Services) -> Iterator[Chore]:
    """All there are, the urgent ones first."""
    settings, database, storage = given.settings, given.database, given.storage
    yield Chore("end expired leases", 0, lambda: sweep(database, max_losses=settings.max_losses))
    yield Chore("throw expired uploads away", 0, lambda: expire(database, storage))
    keep = settings.checkpoint_keep_seconds
    yield Chore("drop old checkpoints", 0, lambda: garbage.expire_checkpoints(database, storage, keep_seconds=keep))
    yield Chore(
        "forget silent workers", _SLOW_SECONDS, lambda: forget(database, seconds=settings.worker_forget_seconds)
    )
    yield Chore("purge messages that nobody takes", _SLOW_SECONDS, lambda: purge(given))
    yield Chore("sweep drafts", _SLOW_SECONDS, lambda: sweep_drafts(settings, seconds=_STALE_DRAFT_SECONDS))
    if (days := settings.retention_days) is not None:
        yield Chore("delete old jobs", _SLOW_SECONDS, lambda: retention.expire(database, storage, days=days))
    yield Chore("collect garbage", settings.garbage_seconds, lambda: garbage.collect(database, storage))


def purge(given: Services) -> int:
    """Drop the messages of queues that no live worker serves; how many there were."""
    with given.database.reading() as session:
        queues = unserved(session, lease_seconds=given.settings.lease_seconds)
    return given.doorbell.purge(queues)
