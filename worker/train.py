"""The training child: teacher, student and control in turn, each resumable; then evaluation and the bundle.

Each phase has one checkpoint file. A phase whose file says it is complete is not trained again; one whose file
stands in the middle goes on from there; so a resumed job walks the same path as an undisturbed one.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stillhouse.spec import JobSpec
from worker.assembly import Phase, build_run, build_teacher, phases, ready_teachers, rehearse
from worker.bundle import write_bundle
from worker.child import EXIT_STOPPED, Emitter
from worker.engine import checkpoint, failpoint
from worker.engine.data import store
from worker.engine.data.split import split_dataset
from worker.engine.distill import distill
from worker.engine.errors import EngineError
from worker.engine.events import EpochFinished, Progress
from worker.engine.precision import resolve
from worker.engine.run import Run
from worker.progress import Tracker
from worker.sandbox import Protections

CHECKPOINTS, OUTBOX, BUNDLE = Path("checkpoints"), Path("outbox"), Path("bundle")


class Stopped(Exception):
    """Asked to stop, and the checkpoint is written."""


class Job:
    """One job as the child sees it."""

    def __init__(self, plan: dict[str, Any], emitter: Emitter, protections: Protections) -> None:
        self.spec = JobSpec.model_validate(plan["spec"])
        self.emitter = emitter
        self.protections = protections
        self.checkpoint_seconds = float(plan["checkpoint_seconds"])
        self.stop = threading.Event()
        self.settled = self._settle(plan["settled"])
        self.device = torch.device(self.settled["device"])
        self.precision = resolve(self.settled["precision"], self.device)
        stored = store.load(Path("dataset")).resized(self.spec.dataset.input_size)
        self.dataset = split_dataset(stored, validation=self.spec.dataset.validation, seed=self.spec.training.seed)
        self.tracker = Tracker(self.spec, self.dataset)

    def _settle(self, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """Device, precision and threads: as the first attempt had them, because they decide the bits."""
        device = "cuda" if torch.cuda.is_available() and self.spec.resources.gpus > 0 else "cpu"
        resolved = resolve(self.spec.training.precision, torch.device(device)).name
        mine: dict[str, Any] = {"device": device, "precision": resolved, "threads": len(os.sched_getaffinity(0))}
        settled = earlier or mine
        if settled["device"] != device:
            message = f"this job began on {settled['device']} and goes on on {device}; its bytes will differ"
            self.emitter.emit("warning", message=message)
            settled = {**mine, "precision": settled["precision"]}
        torch.set_num_threads(settled["threads"])
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # else TF32 on newer GPUs
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        self.emitter.emit("plan", **settled)
        return settled

    def run(self) -> None:
        """Train every phase, compare, write the bundle."""
        failpoint.reach("child.start")
        ready = ready_teachers(self.spec, self.dataset)
        rehearse(self.spec, self.dataset, ready)
        trained: dict[str, Run] = {}
        networks = {name: network.to(self.device) for name, network in ready.items()}
        stages = {"teacher": "teacher", "student": "training", "control": "control"}
        for phase in phases(self.spec):
            self.emitter.emit("stage", stage=stages[phase.kind])
            run = build_run(
                self.spec,
                phase,
                self.dataset,
                teacher=build_teacher(self.spec, networks),
                device=self.device,
                precision=self.precision,
            )
            for warning in run.warnings:
                self.emitter.emit("warning", message=f"{phase.name}: {warning}")
            self._train(phase, run)
            run.student.body.load_state_dict(run.result_state())
            trained[phase.name], networks[phase.name] = run, run.student
        result = write_bundle(
            BUNDLE,
            spec=self.spec,
            dataset=self.dataset,
            runs=trained,
            networks=networks,
            settled=self.settled,
            protections=self.protections,
            on_stage=lambda stage: self.emitter.emit("stage", stage=stage),
            on_evaluated=lambda: self.emitter.emit("alive"),
        )
        self.emitter.emit("result", result=result)
        failpoint.reach("child.result")

    def _train(self, phase: Phase, run: Run) -> None:
        """One phase, from its checkpoint if there is one, to its end."""
        file = CHECKPOINTS / f"{phase.name}.pt"
        if file.exists():
            saved = checkpoint.load(file)
            run.load_state_dict(saved["run"])
            if saved["complete"]:
                self.tracker.finish(phase.name)
                return
        saved_at = time.monotonic()
        for event in distill(run):
            if isinstance(event, Progress):
                self.emitter.emit(
                    "progress", phase=phase.name, stage=phase.kind, **self.tracker.advance(phase.name, event)
                )
                points = [
                    (f"{phase.name}/{name}", event.global_step, time.time(), value)
                    for name, value in event.metrics.items()
                ]
                self.emitter.emit("metrics", points=points)
                continue  # the step's own event follows; one checkpoint for a step is enough
            if isinstance(event, EpochFinished):
                self._epoch_finished(phase, event)
            if self.stop.is_set():
                self._save(phase, run, complete=False)
                raise Stopped
            if time.monotonic() - saved_at >= self.checkpoint_seconds:
                self._save(phase, run, complete=False)
                saved_at = time.monotonic()
        self._save(phase, run, complete=True)
        self.tracker.finish(phase.name)

    def _epoch_finished(self, phase: Phase, event: EpochFinished) -> None:
        points = [
            (f"{phase.name}/epoch/{name}", event.epoch, time.time(), value) for name, value in event.metrics.items()
        ]
        self.emitter.emit("metrics", points=points)
        self.emitter.emit(
            "epoch_finished", phase=phase.name, epoch=event.epoch, epochs=event.epochs, metrics=dict(event.metrics)
        )

    def _save(self, phase: Phase, run: Run, *, complete: bool) -> None:
        """Write a checkpoint and hand it over; the supervisor stores it and takes the file away."""
        name = f"{phase.name}-{run.epoch:06d}-{run.step:08d}{'-complete' if complete else ''}.pt"
        checkpoint.save(OUTBOX / name, {"run": run.state_dict(), "complete": complete})
        self.emitter.emit("checkpoint", phase=phase.name, complete=complete, epoch=run.epoch, step=run.step, file=name)


def run(_arguments: Sequence[str], emitter: Emitter, protections: Protections) -> int:
    """Do what ``plan.json`` says; the exit status and the last event say how it went."""
    plan = json.loads(Path("plan.json").read_text())
    try:
        job = Job(plan, emitter, protections)
        signal.signal(signal.SIGTERM, lambda *_: job.stop.set())
        job.run()
    except Stopped:
        return EXIT_STOPPED
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor is told
        reason, detail = _explain(error)
        emitter.emit("failed", reason=reason, detail=detail)
        return 1
    return 0


def _explain(error: Exception) -> tuple[str, str]:
    """The reason an error stands for, and its sentence; a defect's traceback goes to the job's log."""
    if isinstance(error, EngineError):
        return error.reason, f"{error} {error.remedy}".strip()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out_of_memory", str(error).splitlines()[0] if str(error) else "no memory left"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return "storage_error", f"the scratch folder: {error.strerror}; free some space"
    traceback.print_exception(error)
    return "internal", f"{type(error).__name__}: {error}"
