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


class Heartbeat:
    """Renews a lease until it is closed; what comes back is the job's status, which carries the flags.

    When the lease is lost, or could not be renewed for two thirds of its length (by this process's own monotonic
    clock), ``on_lost`` is called once: the attempt must stop before another one may start.
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
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{lease.job_id}", daemon=True)
        self.status: Status = "running"
        self.lost = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._closed.wait(self._every):
            try:
                with self._database.transaction() as session:
                    self.status = renew(session, self._lease, seconds=self._lease_seconds)
                renewed = time.monotonic()
            except LeaseLost:
                logger.warning("lost the lease of %s attempt %s", self._lease.job_id, self._lease.attempt)
                self._lose()
                return
            except SQLAlchemyError as error:
                logger.warning("heartbeat of %s failed: %s", self._lease.job_id, error)
                if time.monotonic() - renewed > self._lease_seconds * 2 / 3:
                    self._lose()
                    return

    def _lose(self) -> None:
        self.lost = True
        self._on_lost()
