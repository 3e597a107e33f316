"""The worker's line in the register, kept true for as long as it lives."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import threading

from sqlalchemy.exc import SQLAlchemyError

from app import signs
from app.config import Settings
from app.db import Database
from app.lifecycle.claim import Worker
from app.lifecycle.fleet import Description, leave, report
from stillhouse.fleet import WorkerState
from worker.fitness import Fitness

logger = logging.getLogger(__name__)

_TOLD_OF = ("stillhouse", "torch", "torchvision", "celery")


class Registration:
    """Reports at the heartbeat's pace, and at once when the worker is asked to stop."""

    def __init__(
        self, settings: Settings, database: Database, worker: Worker, *, fitness: Fitness, draining: threading.Event
    ) -> None:
        self._settings = settings
        self._database = database
        self._fitness = fitness
        self._draining = draining
        self._closed = threading.Event()
        self._newborn = True
        self._who = Description(
            name=worker.name,
            host=worker.host,
            pid=os.getpid(),
            devices=list(worker.devices),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            versions=_versions(),
            queues=list(worker.queues),
        )

        self._report()
        self._thread = threading.Thread(target=self._keep, name="registration", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The worker has ended."""
        self._closed.set()
        self._draining.set()
        self._thread.join()
        signs.take_back(self._settings.data_dir, host=self._who.host, name=self._who.name)
        try:
            with self._database.transaction() as session:
                leave(session, self._who.name)
        except SQLAlchemyError as error:
            logger.warning("could not sign off; the register forgets this worker in time: %s", error)

    def _keep(self) -> None:
        while True:
            waited_for = self._closed if self._draining.is_set() else self._draining
            waited_for.wait(self._settings.heartbeat_seconds)
            if self._closed.is_set():
                return
            self._report()

    def _report(self) -> None:
        state, reason = self._state()
        try:
            signs.give(self._settings.data_dir, host=self._who.host, name=self._who.name)
            with self._database.transaction() as session:
                report(session, self._who, state=state, reason=reason, newborn=self._newborn)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("could not report to the register: %s", error)
        else:
            self._newborn = False

    def _state(self) -> tuple[WorkerState, str | None]:
        if self._draining.is_set():
            return "draining", "it was asked to stop, and gives its jobs back"
        complaint = self._fitness.complaint()
        return ("ready", None) if complaint is None else ("unfit", complaint)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _TOLD_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
