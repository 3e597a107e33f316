"""One attempt at validating an upload: as an attempt at a job, but for what is staged, run and published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.db import on_commit
from app.lifecycle import uploads
from app.lifecycle.garbage import discard, drop
from app.lifecycle.lease import held
from app.lifecycle.validation import asset_of, conclude
from app.tables import UploadPart
from worker import staging
from worker.attempt import Attempt
from worker.handover import Handover, Untrustworthy
from worker.patience import insist
from worker.sandbox import spawn
from worker.watch import Ending

KEPT = {
    "datasets": ({"data.safetensors", "dataset.json"},),
    "models": ({"model.safetensors", "model.json"}, {"model.onnx", "model.json"}),
}
"""By table, the sets of files that may make up the stored form."""


@dataclass(frozen=True)
class Subject:
    """What is validated."""

    table: str
    prefix: str
    """Of the keys of what is kept."""
    upload: str
    """Below which key the upload's parts lie."""
    parts: list[UploadPart]
    plan: dict[str, Any]


class Validation(Attempt):
    """The state of one attempt while it runs."""

    subject: Subject

    def _work(self) -> Ending:
        self.reporter.stage("staging")
        self.subject = insist(self._look, lost=lambda: self.beat.lost)
        staging.stage_upload(self.storage, self.subject.parts, self.scratch / "upload")
        staging.write_plan(self.scratch, {**self.subject.plan, "memory_bytes": self.settings.validation_memory_bytes})
        child = spawn("validate", folder=self.scratch, network=False)
        return self._with_result(self._run_child(self._watch(self.settings.validation_seconds), child))

    def _look(self) -> Subject:
        with self.database.transaction() as session:
            asset = asset_of(session, held(session, self.lease))
            table = asset.__tablename__
            return Subject(
                table=table,
                prefix=f"{table}/{asset.id}/attempts/{self.lease.attempt}",
                upload=uploads.folder(asset.upload_id),
                parts=uploads.parts(session, asset.upload_id),
                plan={"table": table, "name": asset.name, "declared": asset.declared},
            )

    def _publish(self) -> None:
        """Store the files, then the verdict in one fenced transaction; the upload itself is not needed after it."""
        assert self.result is not None
        result = self.result
        self.reporter.flush(force=True)
        files = self._store() if result["facts"] is not None else {}

        def write() -> None:
            with self.database.transaction() as session:
                not_needed = conclude(
                    session,
                    held(session, self.lease),
                    report=result["report"],
                    facts=result["facts"],
                    files=files,
                    max_losses=self.settings.max_losses,
                )
                on_commit(session, lambda: discard(self.storage, self.subject.upload))
                on_commit(session, lambda: drop(self.storage, not_needed))

        insist(write, lost=lambda: self.beat.lost)

    def _store(self) -> dict[str, dict[str, Any]]:
        bundle = Handover(self.scratch / "bundle")
        names = bundle.names()
        if set(names) not in KEPT[self.subject.table]:
            raise Untrustworthy(f"the child left {', '.join(names)}")
        files: dict[str, dict[str, Any]] = {}
        for name in names:
            with bundle.open(name) as file:
                stored = self.storage.put(f"{self.subject.prefix}/{name}", file)
            files[name] = {"key": stored.key, "bytes": stored.bytes, "sha256": stored.sha256}
        return files
