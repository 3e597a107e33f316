"""One attempt at validating an upload: as an attempt at a job, but for what is staged, run and published."""

from __future__ import annotations

import time
from typing import Any

from app.db import on_commit
from app.errors import StorageError
from app.lifecycle.lease import LeaseLost, held
from app.lifecycle.uploads import content_key
from app.lifecycle.validation import asset_of, conclude
from worker import staging
from worker.attempt import Attempt, Ending
from worker.heartbeat import Heartbeat
from worker.sandbox import spawn

KEPT = {"datasets": ("data.safetensors", "dataset.json"), "models": ("model.safetensors", "model.json")}
"""By table, the files that make up the stored form."""


class Validation(Attempt):
    """The state of one attempt while it runs."""

    table = ""
    prefix = ""
    upload = ""

    def _work(self, beat: Heartbeat) -> Ending:
        self.reporter.stage("staging")
        with self.database.transaction() as session:
            asset = asset_of(session, held(session, self.lease))
            self.table, self.upload = asset.__tablename__, content_key(asset.upload_id)
            self.prefix = f"{self.table}/{asset.id}/attempts/{self.lease.attempt}"
            plan = {"table": self.table, "name": asset.name, "declared": asset.declared}
        try:
            self.storage.fetch(self.upload, self.scratch / "upload")
        except OSError as error:
            raise StorageError(f"the upload cannot be read: {error.strerror}") from error
        staging.write_plan(self.scratch, {**plan, "memory_bytes": self.settings.validation_memory_bytes})
        self.child = spawn("validate", folder=self.scratch, network=False)
        try:
            self.reporter.started(self.child.process.pid, None)
            return self._watch(self.child, beat, time.monotonic() + self.settings.validation_seconds)
        finally:
            child, self.child = self.child, None
            child.close()

    def _publish(self, result: dict[str, Any]) -> None:
        """Store the files, then the verdict in one fenced transaction; the upload itself is not needed after it."""
        self.reporter.flush(force=True)
        try:
            files = self._store() if result["facts"] is not None else {}
            with self.database.transaction() as session:
                conclude(
                    session,
                    held(session, self.lease),
                    report=result["report"],
                    facts=result["facts"],
                    files=files,
                    max_losses=self.settings.max_losses,
                )
                on_commit(session, lambda: self.storage.delete(self.upload))
        except LeaseLost:
            self.storage.delete_prefix(self.prefix)
            raise

    def _store(self) -> dict[str, dict[str, Any]]:
        files: dict[str, dict[str, Any]] = {}
        for name in KEPT[self.table]:
            file = self.scratch / "bundle" / name
            if file.is_symlink() or file.parent.is_symlink() or not file.is_file():
                raise StorageError(f"the child left no {name}")  # or a link to what it must not see
            stored = self.storage.put(f"{self.prefix}/{name}", file)
            files[name] = {"key": stored.key, "bytes": stored.bytes, "sha256": stored.sha256}
        return files
