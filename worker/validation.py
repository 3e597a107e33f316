"""One attempt at validating an upload: as an attempt at a job, but for what is staged, run and published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import on_commit
from app.lifecycle import uploads
from app.lifecycle.garbage import discard, drop
from app.lifecycle.lease import held
from app.lifecycle.validation import Asset, asset_of, conclude
from app.tables import DataSet, UploadPart
from stillhouse.spec.datasets import DATASETS
from worker import staging
from worker.attempt import Attempt
from worker.handover import Handover, Untrustworthy
from worker.patience import insist
from worker.sandbox import spawn
from worker.watch import Ending, Watch

KEPT = {
    "datasets": ({"data.safetensors", "dataset.json"},),
    "models": ({"model.safetensors", "model.json"}, {"model.onnx", "model.json"}),
}
"""By table, the sets of files that may make up the stored form."""
_APPRAISAL_SECONDS = 900.0
"""At most so long a model's accuracy is measured."""


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
    measured_on: MeasuredOn | None


@dataclass(frozen=True)
class MeasuredOn:
    """The data set that a model's accuracy was asked for."""

    name: str
    files: Mapping[str, Mapping[str, Any]] | None
    """Of an uploaded one that is there; None of a built-in one."""


class Validation(Attempt):
    """The state of one attempt while it runs."""

    subject: Subject

    def _work(self) -> Ending:
        self.reporter.stage("staging")
        self.subject = insist(self._look, lost=lambda: self.beat.lost)
        seconds = self.settings.validation_seconds
        too_long = Ending("validation_limit", f"it took longer than {seconds:,g} s")
        watch = Watch(self.settings, self.beat, self.draining, allowed_seconds=seconds, too_long=too_long)
        appraisal = self._stage_appraisal(watch, self.subject.measured_on)
        if isinstance(appraisal, Ending):
            return appraisal
        # only now: a child that fetches has network, and is to see no file of a user's
        staging.stage_upload(self.storage, self.subject.parts, self.scratch / "upload")
        memory = self.settings.validation_memory_bytes
        staging.write_plan(self.scratch, {**self.subject.plan, "memory_bytes": memory, "appraisal": appraisal})
        child = spawn("validate", folder=self.scratch, network=False)
        return self._with_result(self._run_child(watch, child))

    def _stage_appraisal(self, watch: Watch, wanted: MeasuredOn | None) -> dict[str, Any] | Ending | None:
        """Bring the data set that is asked for; a set that cannot be had is no reason to refuse the model."""
        if wanted is None:
            return None
        problem = None
        if wanted.files is not None:
            staging.stage_uploaded(self.storage, wanted.files, self.scratch)
        elif wanted.name not in DATASETS:
            problem = "it is not in this project any more"
        else:
            builtin = staging.builtin(self.settings, wanted.name)
            ending = self._fetch(watch, builtin)
            if ending.reason == "download_failed":
                problem, self.failed = ending.detail or "the download failed", None
            elif ending.reason is not None:
                return ending
            else:
                staging.stage_builtin(builtin, self.scratch)
        seconds = min(_APPRAISAL_SECONDS, self.settings.validation_seconds / 2)
        return {"dataset": wanted.name, "seconds": seconds, "problem": problem}

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
                measured_on=self._measured_on(session, asset),
            )

    def _measured_on(self, session: Session, asset: Asset) -> MeasuredOn | None:
        name = asset.declared.get("dataset")
        if name is None:
            return None
        row = session.scalar(select(DataSet).where(DataSet.id == name, DataSet.project_id == asset.project_id))
        return MeasuredOn(name, row.files if row is not None else None)

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
