"""What a Celery message starts. It carries an id as a hint; which job is run is decided by the claim."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery import Celery
from celery.signals import worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from app.lifecycle.claim import waiting
from app.queue import RUN_NEXT
from worker.supervisor import Supervisor

logger = logging.getLogger(__name__)


class Slots:
    """How many attempts run now, so that only a worker with a free slot looks for more."""

    def __init__(self, total: int) -> None:
        self._free = threading.Semaphore(total)

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(self, *_: object) -> None:
        self._free.release()

    @contextmanager
    def one_free(self) -> Iterator[bool]:
        """Take a slot if there is one now; whether there was."""
        taken = self._free.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken:
                self._free.release()


def register(celery: Celery, supervisor: Supervisor, slots: Slots, *, validator: Supervisor) -> None:
    """Name the one task, and tie the worker's life to the supervisors'."""

    @celery.task(name=RUN_NEXT)  # type: ignore[untyped-decorator]  # celery ships no types
    def run_next(job_id: str) -> None:
        logger.debug("rung for %s", job_id)
        with slots:
            supervisor.run_next()

    def drain(**_: object) -> None:
        supervisor.draining.set()
        validator.draining.set()

    worker_shutting_down.connect(drain, weak=False)


def look_out(supervisor: Supervisor, slots: Slots) -> threading.Thread:
    """A thread that looks for waiting jobs until the worker is drained, and runs what it finds in a free slot.

    It is the only net for lost messages. It asks nothing of the broker, so jobs also run while that is down.
    """

    def look() -> None:
        while not supervisor.draining.wait(supervisor.settings.poll_seconds):
            with slots.one_free() as free:
                try:
                    while free and _waiting(supervisor) and supervisor.run_next():
                        pass
                except SQLAlchemyError as error:
                    logger.warning("could not look for waiting jobs, and will again: %s", error)
                except Exception:
                    logger.exception("could not look for waiting jobs")

    return _started(look, "look-out")


def validate_uploads(supervisor: Supervisor) -> threading.Thread:
    """A thread that looks for uploads to validate until the worker is drained. It needs no bell: it looks often."""

    def look() -> None:
        while not supervisor.draining.wait(supervisor.settings.poll_seconds):
            try:
                while supervisor.run_next():
                    pass
            except Exception:
                logger.exception("could not validate an upload")

    return _started(look, "validations")


def _started(look: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=look, name=name, daemon=True)
    thread.start()
    return thread


def _waiting(supervisor: Supervisor) -> bool:
    with supervisor.database.reading() as session:
        return waiting(session, supervisor.worker) is not None
