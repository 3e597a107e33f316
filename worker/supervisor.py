"""What one slot of a worker does: claim a job, see an attempt through. It never imports torch."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.db import Database
from app.errors import StorageError
from app.lifecycle import claim
from app.lifecycle.lease import Lease, LeaseLost, held
from app.lifecycle.settle import end
from app.storage import Storage
from app.tables import Kind
from worker.attempt import Attempt
from worker.engine import failpoint
from worker.fitness import Fitness
from worker.validation import Validation

logger = logging.getLogger(__name__)

ATTEMPTS: dict[Kind, type[Attempt]] = {"distillation": Attempt, "validation": Validation}


class Supervisor:
    """What one slot of a worker does; any number may run side by side in one process."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, worker: claim.Worker) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self.worker = worker
        self.draining = threading.Event()
        self.fitness = Fitness(
            settings.data_dir,
            least_free_bytes=settings.least_free_bytes,
            devices=worker.devices if worker.kind == "distillation" else (),  # a validation runs on the CPU
        )

    def run_next(self) -> bool:
        """Claim the best waiting job and see it through; whether there was one."""
        if not self.takes_jobs():
            return False
        failpoint.reach("claim.before")
        try:
            with self.database.transaction() as session:
                lease = claim.claim(session, self.worker, lease_seconds=self.settings.lease_seconds)
        except SQLAlchemyError as error:
            logger.warning("could not look for a job, and will again: %s", error)
            return False
        if lease is None:
            return False
        failpoint.reach("claim.after")
        logger.info("claimed %s, attempt %d", lease.job_id, lease.attempt)
        try:
            with _scratch(self.settings.data_dir / "scratch" / self.worker.name, lease) as scratch:
                ATTEMPTS[self.worker.kind](
                    self.settings, self.database, self.storage, lease=lease, scratch=scratch, draining=self.draining
                ).run()
        except StorageError as error:
            self._end(lease, error)
        except LeaseLost:
            logger.warning("%s attempt %d was taken over; nothing more is written", lease.job_id, lease.attempt)
        return True

    def takes_jobs(self) -> bool:
        """Whether it may claim: it was not asked to stop, and its disk and GPUs are fit."""
        return not self.draining.is_set() and self.fitness.complaint() is None

    def _end(self, lease: Lease, error: StorageError) -> None:
        """There was no room even to begin."""
        with self.database.transaction() as session:
            job = held(session, lease)
            end(session, job, reason="storage_error", detail=str(error), max_losses=self.settings.max_losses)


@contextmanager
def _scratch(parent: Path, lease: Lease) -> Iterator[Path]:
    """A folder for one attempt, gone when the attempt has ended."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{lease.job_id}-{lease.attempt}-", dir=parent))
    except OSError as error:
        raise StorageError(f"cannot create a scratch folder in {parent}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
