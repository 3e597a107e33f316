"""One attempt at one job: stage, start the child, relay what it says, publish or say why not."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import Any

from app import logs, tracing
from app.config import Settings
from app.db import Database
from app.errors import StorageError
from app.lifecycle.garbage import drop
from app.lifecycle.lease import Lease, LeaseLost, held
from app.lifecycle.settle import end
from app.storage import Storage
from stillhouse.spec.reasons import REASONS
from worker import staging, tables, weights
from worker.cgroup import memory_limit
from worker.engine import failpoint
from worker.handover import PHASE, Handover, Untrustworthy, point
from worker.heartbeat import Heartbeat
from worker.needs import Needs, needs
from worker.patience import insist
from worker.publish import publish
from worker.reporter import Reporter
from worker.sandbox import Child, spawn
from worker.watch import Ending, Watch

logger = logging.getLogger(__name__)


class Attempt:
    """The state of one attempt while it runs."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        *,
        lease: Lease,
        scratch: Path,
        draining: threading.Event,
    ) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self.draining = draining
        self.lease = lease
        self.scratch = scratch
        self.outbox = Handover(scratch / "outbox")
        self.beat = Heartbeat(
            database,
            lease,
            every=settings.heartbeat_seconds,
            lease_seconds=settings.lease_seconds,
            on_lost=self._kill_child,
        )
        self.reporter = Reporter(database, lease, log_limit_bytes=settings.log_limit_bytes, lost=lambda: self.beat.lost)
        self.child: Child | None = None
        self.failed: Ending | None = None
        self.result: dict[str, Any] | None = None

    def run(self) -> None:
        """Stage, train, publish; whatever goes wrong becomes a reason on the row. Raises LeaseLost."""
        job_id, attempt = self.lease.job_id, self.lease.attempt
        with (
            logs.bound(job_id=job_id, attempt=attempt),
            tracing.span("attempt", job_id=job_id, attempt=attempt),
            self.beat,
        ):
            try:
                ending = self._work()
                if ending.reason is None:
                    self._publish()
                    return
            except LeaseLost:
                raise
            except (StorageError, OSError) as error:
                ending = Ending("storage_error", str(error))
            except weights.WeightsMissing as error:
                ending = Ending("bad_weights", str(error))
            except Exception as error:
                logger.exception("%s attempt %d failed", self.lease.job_id, self.lease.attempt)
                ending = Ending("internal", f"{type(error).__name__}: {error}")
            self._end(ending)
        logger.info("%s attempt %d ended: %s", self.lease.job_id, self.lease.attempt, ending.reason)

    def _end(self, ending: Ending) -> None:
        self.reporter.flush(force=True)

        def write() -> None:
            with self.database.transaction() as session:
                end(
                    session,
                    held(session, self.lease),
                    reason=ending.reason or "internal",
                    detail=ending.detail,
                    exit_=ending.exit,
                    max_losses=self.settings.max_losses,
                )

        insist(write, lost=lambda: self.beat.lost)

    def _work(self) -> Ending:
        self.reporter.stage("staging")
        read = insist(self._read, lost=lambda: self.beat.lost)
        limit = read.spec["resources"]["max_runtime"]
        watch = Watch(
            self.settings, self.beat, self.draining, allowed_seconds=None if limit is None else limit - read.spent
        )
        libraries = [each.published for each in read.weights.values() if each.published is not None]
        fetched = [weights.published(self.settings, name) for name in libraries]
        builtin = staging.builtin(self.settings, read.spec["dataset"]["id"]) if read.dataset is None else None
        for wanted in fetched if builtin is None else [builtin, *fetched]:
            if (ending := self._fetch(watch, wanted)).reason is not None:
                return ending
        if builtin is not None:
            staging.stage_builtin(builtin, self.scratch)
        else:
            staging.stage_uploaded(self.storage, read.dataset or {}, self.scratch)
        weights.stage_weights(self.settings, self.storage, read.weights, self.scratch)
        resumed_from, rejected = staging.stage_checkpoints(self.storage, read.checkpoints, self.scratch)
        for sentence in rejected:
            self._warn(sentence)
        tables.stage(read.table, self.scratch, self._warn)
        mine = {
            "checkpoint_seconds": self.settings.checkpoint_seconds,
            "devices": self.settings.devices,
            "table_limit_bytes": 0 if read.table is None else read.table.limit,
        }
        staging.write_plan(self.scratch, {"spec": read.spec, "settled": read.plan, **mine})
        for folder in ("outbox", "bundle"):
            (self.scratch / folder).mkdir()
        with memory_limit(self.settings.training_memory_bytes, warn=self._warn) as memory:
            child = spawn("train", folder=self.scratch, network=False)
            memory.enter(child.process.pid)
            ending = self._run_child(watch, child, resumed_from=resumed_from)
            if ending.reason == "worker_lost" and (detail := memory.exceeded()):
                ending = Ending("out_of_memory", detail, ending.exit)
        tables.keep(read.table, self.scratch, self._warn)
        return self._with_result(ending)

    def _fetch(self, watch: Watch, wanted: staging.Fetched) -> Ending:
        """Have a child make what is wanted, where this worker does not have it yet."""
        if wanted.is_kept:
            return Ending(None)
        ending = self._run_child(watch, staging.start_fetching(self.settings, wanted, self.scratch))
        if ending.reason is None:
            staging.keep(wanted, self.scratch)
        return ending

    def _with_result(self, ending: Ending) -> Ending:
        if ending.reason is None and self.result is None:
            return Ending("internal", "the child ended well, and without a result", ending.exit)
        return ending

    def _read(self) -> Needs:
        with self.database.transaction() as session:
            return needs(session, self.settings, held(session, self.lease))

    def _run_child(self, watch: Watch, child: Child, *, resumed_from: str | None = None) -> Ending:
        """Watch a child to its end. What it said of its own failure counts for more than how it ended."""
        self.child = child
        failpoint.reach("child.started")
        try:
            self.reporter.started(child.process.pid, resumed_from)
            ending = watch.until_ended(child, relay=self._relay, output=self.reporter.output, tick=self.reporter.flush)
        finally:
            self.child = None
            child.close()
        if self.failed is not None:
            return Ending(self.failed.reason, self.failed.detail, ending.exit)
        if self.result is not None and ending.exit == 0:
            return Ending(None, None, 0)  # it was done before it could be stopped
        return ending

    def _relay(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        match kind:
            case "stage":
                self.reporter.stage(str(event["stage"])[:32])
            case "plan":
                self.reporter.plan(event)
            case "metrics":
                self.reporter.metrics([point(*each) for each in event["points"]])
            case "checkpoint":
                self._keep_checkpoint(event)
            case "result":
                self.result = event["result"]
            case "failed":
                known = event["reason"] if event["reason"] in REASONS else "internal"
                self.failed = self.failed or Ending(known, str(event["detail"]))  # of several ranks the first counts
            case "alive":
                pass
            case "progress" | "epoch_finished":
                self.reporter.often(f"job.{kind}", event)
            case "warning":
                self.reporter.event("job.warning", event)
            case _:
                raise Untrustworthy(f"the child said {kind[:40]!r}, which no child says")

    def _keep_checkpoint(self, event: dict[str, Any]) -> None:
        """Store the file, then its row. A full disk costs this checkpoint only: the one before stays."""
        phase, name = str(event["phase"]), str(event["file"])
        if not PHASE.fullmatch(phase):
            raise Untrustworthy(f"the child named a phase {phase[:40]!r}")
        key = f"jobs/{self.lease.job_id}/attempts/{self.lease.attempt}/checkpoints/{name}"
        with self.outbox.open(name) as file:
            try:
                failpoint.reach("checkpoint.upload")
                stored = self.storage.put(key, file)
                failpoint.reach("checkpoint.uploaded")
                drop(self.storage, self.reporter.checkpoint(stored, event))
                failpoint.reach("checkpoint.recorded")
            except StorageError as error:
                self._warn(f"this checkpoint could not be kept: {error}")
        self.outbox.remove(name)

    def _warn(self, message: str) -> None:
        self.reporter.event("job.warning", {"message": message})

    def _publish(self) -> None:
        assert self.result is not None
        self.reporter.flush(force=True)
        self.reporter.stage("publishing")
        publish(
            self.database,
            self.storage,
            self.lease,
            bundle=Handover(self.scratch / "bundle"),
            result=self.result,
            max_losses=self.settings.max_losses,
            lost=lambda: self.beat.lost,
        )

    def _kill_child(self) -> None:
        if (child := self.child) is not None:
            child.signal_group(signal.SIGKILL)
