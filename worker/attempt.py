"""One attempt at one job: stage, start the child, relay what it says, publish or say why not."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config import Settings
from app.db import Database
from app.errors import StorageError
from app.lifecycle.lease import Lease, LeaseLost, held
from app.lifecycle.settle import end
from app.storage import Storage
from app.tables import DataSet
from stillhouse.spec.reasons import REASONS
from worker import staging
from worker.heartbeat import Heartbeat
from worker.publish import publish
from worker.reporter import Reporter, resumable, run_seconds
from worker.sandbox import Child, spawn

logger = logging.getLogger(__name__)

EXIT_STOPPED = 75
"""EX_TEMPFAIL: the child has stopped at a checkpoint because it was asked to."""


@dataclass(frozen=True)
class Ending:
    """How an attempt came to its end: a result to publish, or a reason from the table."""

    reason: str | None
    detail: str | None = None
    exit: int | None = None
    result: dict[str, Any] | None = None


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
        self.reporter = Reporter(self.database, lease, log_limit_bytes=self.settings.log_limit_bytes)
        self.child: Child | None = None
        self.reported: Ending | None = None
        self.last_sign = time.monotonic()

    def run(self) -> None:
        """Stage, train, publish; whatever goes wrong becomes a reason on the row. Raises LeaseLost."""
        beat = Heartbeat(
            self.database,
            self.lease,
            every=self.settings.heartbeat_seconds,
            lease_seconds=self.settings.lease_seconds,
            on_lost=self._kill_child,
        )
        with beat:
            try:
                ending = self._work(beat)
                if ending.result is not None:
                    self._publish(ending.result)
                    return
            except StorageError as error:
                ending = Ending("storage_error", str(error))
            except staging.DownloadFailed as error:
                ending = Ending("download_failed", str(error))
            self.reporter.flush(force=True)
            with self.database.transaction() as session:
                job = held(session, self.lease)
                end(
                    session,
                    job,
                    reason=ending.reason or "internal",
                    detail=ending.detail,
                    exit_=ending.exit,
                    max_losses=self.settings.max_losses,
                )
        logger.info("%s attempt %d ended: %s", self.lease.job_id, self.lease.attempt, ending.reason)

    def _work(self, beat: Heartbeat) -> Ending:
        self.reporter.stage("staging")
        with self.database.transaction() as session:
            job = held(session, self.lease)
            spec, plan, found = job.spec, job.plan, resumable(session, job.id)
            uploaded = session.get(DataSet, spec["dataset"]["id"])
            limit = spec["resources"]["max_runtime"]
            allowed = None if limit is None else limit - run_seconds(session, job)
        deadline = None if allowed is None else time.monotonic() + allowed
        if uploaded is not None and uploaded.files is not None:
            staging.stage_uploaded(self.storage, uploaded.files, self.scratch)
        else:
            staging.stage_dataset(self.settings, spec["dataset"]["id"], self.scratch)
        resumed_from, rejected = staging.stage_checkpoints(self.storage, found, self.scratch)
        for sentence in rejected:
            self.reporter.event("job.warning", {"message": sentence})
        pace = {"checkpoint_seconds": self.settings.checkpoint_seconds}
        staging.write_plan(self.scratch, {"spec": spec, "settled": plan, **pace})
        for folder in ("outbox", "bundle"):
            (self.scratch / folder).mkdir()
        self.child = spawn("train", folder=self.scratch, network=False)
        try:
            self.reporter.started(self.child.process.pid, resumed_from)
            return self._watch(self.child, beat, deadline)
        finally:
            child, self.child = self.child, None
            child.close()

    def _watch(self, child: Child, beat: Heartbeat, deadline: float | None) -> Ending:
        """Relay what the child says until it has ended; ask it to stop, and make it, where needed."""
        stop: Ending | None = None
        asked_at = 0.0
        self.last_sign = time.monotonic()
        for line in _events_and_output(child, self.reporter):
            if beat.lost:
                raise LeaseLost
            if line:
                self.last_sign = time.monotonic()
                self._relay(json.loads(line))
            self.reporter.flush()
            moment = time.monotonic()
            if stop is None:
                stop = self._why_stop(beat, deadline)
                if stop is not None:
                    asked_at = moment
                    child.signal_group(signal.SIGKILL if stop.reason == "stalled" else signal.SIGTERM)
            elif moment - asked_at > self.settings.stop_grace_seconds:
                child.signal_group(signal.SIGKILL)
        if beat.lost:
            raise LeaseLost
        return self._classify(child.process.wait(), stop)

    def _why_stop(self, beat: Heartbeat, deadline: float | None) -> Ending | None:
        if beat.status != "running":
            return Ending("drained")  # the job's own stop_reason decides where it ends up
        if self.draining.is_set():
            return Ending("drained")
        if deadline is not None and time.monotonic() > deadline:
            return Ending("max_runtime", "the job ran for longer than resources.max_runtime")
        if time.monotonic() - self.last_sign > self.settings.stall_seconds:
            return Ending("stalled", f"the child process gave no sign for {self.settings.stall_seconds:.0f} s")
        return None

    def _classify(self, status: int, stop: Ending | None) -> Ending:
        if self.reported is not None and (status == 0 or self.reported.result is None):
            return Ending(self.reported.reason, self.reported.detail, status, self.reported.result)
        if stop is not None:
            return Ending(stop.reason, stop.detail, status)
        if status == EXIT_STOPPED:
            return Ending("drained", None, status)
        how = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
        return Ending("worker_lost", f"the child process ended with {how}", status)

    def _relay(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        match kind:
            case "stage":
                self.reporter.stage(event["stage"])
            case "plan":
                self.reporter.plan(event)
            case "progress":
                self.reporter.progress(event)
            case "metrics":
                self.reporter.metrics([(name, step, at, value) for name, step, at, value in event["points"]])
            case "checkpoint":
                self._keep_checkpoint(event)
            case "result":
                self.reported = Ending(None, result=event["result"])
            case "failed":
                known = event["reason"] if event["reason"] in REASONS else "internal"
                self.reported = Ending(known, event["detail"])
            case "alive":
                pass
            case _:  # epoch_finished, warning: told to clients as they are
                self.reporter.event(f"job.{kind}", event)

    def _keep_checkpoint(self, event: dict[str, Any]) -> None:
        """Store the file, then its row. A full disk costs this checkpoint only: the one before stays."""
        file = self.scratch / "outbox" / event["file"]
        key = f"jobs/{self.lease.job_id}/attempts/{self.lease.attempt}/checkpoints/{event['file']}"
        try:
            for stale in self.reporter.checkpoint(self.storage.put(key, file), event):
                self.storage.delete(stale)
        except StorageError as error:
            self.reporter.event("job.warning", {"message": f"this checkpoint could not be kept: {error}"})
        finally:
            file.unlink(missing_ok=True)

    def _publish(self, result: dict[str, Any]) -> None:
        self.reporter.flush(force=True)
        self.reporter.stage("publishing")
        publish(
            self.database,
            self.storage,
            self.lease,
            bundle=self.scratch / "bundle",
            result=result,
            max_losses=self.settings.max_losses,
        )

    def _kill_child(self) -> None:
        if (child := self.child) is not None:
            child.signal_group(signal.SIGKILL)


def _events_and_output(child: Child, reporter: Reporter) -> Iterator[str]:
    """Each line of the child's events, and at least every 0.2 s an empty one; ends when both pipes are at their end."""
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.events, selectors.EVENT_READ)
        selector.register(child.output, selectors.EVENT_READ)
        while selector.get_map():
            for ready, _ in selector.select(timeout=0.2):
                piece = os.read(ready.fd, 2**16)
                if not piece:
                    selector.unregister(ready.fd)
                elif ready.fd == child.output:
                    reporter.output(piece.decode(errors="replace"))
                else:
                    *lines, buffer = (buffer + piece).split(b"\n")
                    yield from (line.decode() for line in lines)
            yield ""
