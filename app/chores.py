"""The upkeep: what any API process does over and over. Every write is guarded, so any number of loops may run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from anyio import to_thread

from app.dependencies import Services
from app.lifecycle import retention
from app.lifecycle.fleet import forget
from app.lifecycle.upkeep import sweep
from app.lifecycle.uploads import expire
from app.queue import purge_stale

logger = logging.getLogger(__name__)

_SLOW_SECONDS = 60.0
"""Between two rounds of what nobody waits for."""
_STALE_MESSAGE_SECONDS = 600.0


async def keep_up(given: Services, stopping: asyncio.Event) -> None:
    """Until the end. A database that is down is met with patience, and one failed chore does not keep the next."""
    slow = float("-inf")
    while not stopping.is_set():
        chores = list(_often(given))
        if time.monotonic() - slow >= _SLOW_SECONDS:
            slow = time.monotonic()
            chores += _seldom(given)
        for name, chore in chores:
            try:
                await to_thread.run_sync(chore)
            except Exception:
                logger.exception("the upkeep failed to %s; it tries again", name)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), given.settings.upkeep_seconds)


def _often(given: Services) -> Iterator[tuple[str, Callable[[], object]]]:
    settings = given.settings
    yield "end expired leases", lambda: sweep(given.database, max_losses=settings.max_losses)
    yield "throw expired uploads away", lambda: expire(given.database, settings.data_dir)


def _seldom(given: Services) -> Iterator[tuple[str, Callable[[], object]]]:
    settings = given.settings
    yield "forget silent workers", lambda: forget(given.database, seconds=settings.worker_forget_seconds)
    yield "purge stale messages", lambda: purge_stale(settings, seconds=_STALE_MESSAGE_SECONDS)
    yield "tidy jobs that succeeded", lambda: retention.tidy(given.database, given.storage)
    if (days := settings.retention_days) is not None:
        yield "delete old jobs", lambda: retention.expire(given.database, given.storage, days=days)
