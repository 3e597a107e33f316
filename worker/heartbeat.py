"""The lease's pulse, on a thread of its own: staging and uploads may take long, the lease must not notice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError

from app.db import Database
from app.lifecycle.lease import Lease, LeaseLost, renew
from stillhouse.spec import Status

logger = logging.getLogger(__name__)

_JOIN_SECONDS = 5.0


class Heartbeat:
    """Renews a lease until it is closed; what comes back is the job's status, which carries the flags.

    When the lease is lost, or could not be renewed for two thirds of its length (by this process's own monotonic
    clock), ``on_lost`` is called once: the attempt must stop before another one may start. The clock is watched by a
    second thread, since a renewal on a connection that is half open may hang for as long as it likes.
    """

    def __init__(
        self, database: Database, lease: Lease, *, every: float, lease_seconds: float, on_lost: Callable[[], None]
    ) -> None:
        self._database = database
        self._lease = lease
        self._every = every
        self._lease_seconds = lease_seconds
        self._on_lost = on_lost
        self._closed = threading.Event()
        self._renewed = time.monotonic()
        self._beating = threading.Thread(target=self._beat, name=f"heartbeat-{lease.job_id}", daemon=True)
        self._watching = threading.Thread(target=self._watch, name=f"lease-{lease.job_id}", daemon=True)
        self._losing = threading.Lock()
        self.status: Status = "running"
        self.lost = False

    def __enter__(self) -> Heartbeat:
        self._renewed = time.monotonic()
        self._beating.start()
        self._watching.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closed.set()
        self._watching.join()
        self._beating.join(_JOIN_SECONDS)  # one that hangs is left behind: whatever it writes late is fenced

    def _beat(self) -> None:
        while not self._closed.wait(self._every):
            asked = time.monotonic()
            try:
                with self._database.transaction() as session:
                    self.status = renew(session, self._lease, seconds=self._lease_seconds)
                self._renewed = asked
            except LeaseLost:
                self._lose("another attempt has it, or the job has ended")
                return
            except SQLAlchemyError as error:
                logger.warning("heartbeat of %s failed: %s", self._lease.job_id, error)

    def _watch(self) -> None:
        while not self._closed.wait(self._every / 2):
            if time.monotonic() - self._renewed > self._lease_seconds * 2 / 3:
                self._lose("it could not be renewed in time")
                return

    def _lose(self, why: str) -> None:
        with self._losing:
            if self.lost:
                return
            self.lost = True
        logger.warning("lost the lease of %s attempt %s: %s", self._lease.job_id, self._lease.attempt, why)
        self._on_lost()
