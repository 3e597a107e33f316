"""What a Celery message starts. It carries an id as a hint; which job is run is decided by the claim."""

from __future__ import annotations

import logging
import threading

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from app.lifecycle.claim import waiting
from app.queue import RUN_NEXT, Doorbell
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

    def any_free(self) -> bool:
        """Whether an attempt could start now."""
        if not self._free.acquire(blocking=False):
            return False
        self._free.release()
        return True


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

    def look_out(**_: object) -> None:
        bell = Doorbell(celery)
        arguments = (supervisor, bell, slots)
        threading.Thread(target=_look_for_lost_messages, args=arguments, name="look-out", daemon=True).start()

    worker_shutting_down.connect(drain, weak=False)
    worker_ready.connect(look_out, weak=False)


def validate_uploads(supervisor: Supervisor) -> threading.Thread:
    """A thread that looks for uploads to validate until the worker is drained. It needs no bell: it looks often."""

    def look() -> None:
        while not supervisor.draining.wait(supervisor.settings.poll_seconds):
            try:
                while supervisor.run_next():
                    pass
            except Exception:
                logger.exception("could not validate an upload")

    thread = threading.Thread(target=look, name="validations", daemon=True)
    thread.start()
    return thread


def _look_for_lost_messages(supervisor: Supervisor, bell: Doorbell, slots: Slots) -> None:
    """The only net for lost messages: a free worker that sees a waiting job rings its own bell."""
    while not supervisor.draining.wait(supervisor.settings.poll_seconds):
        if not slots.any_free():
            continue
        try:
            job_id = _waiting(supervisor)
        except Exception:
            logger.exception("could not look for waiting jobs")
            continue
        if job_id is not None:
            bell.ring(supervisor.worker.queues[0], job_id)


def _waiting(supervisor: Supervisor) -> str | None:
    with supervisor.database.reading() as session:
        return waiting(session, supervisor.worker)
