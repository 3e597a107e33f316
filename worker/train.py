"""The training child: teacher, student and control in turn, each resumable; then evaluation and the bundle.

Each phase has one checkpoint file. A phase whose file says it is complete is not trained again; one whose file
stands in the middle goes on from there; so a resumed job walks the same path as an undisturbed one.
"""

from __future__ import annotations

import errno
import json
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillhouse.spec import JobSpec
from worker.assembly import build_run, ready_teachers, recorded_teachers, rehearse, suits_bf16, teacher_of
from worker.bundle import write_bundle
from worker.child import EXIT_STOPPED, Emitter
from worker.devices import gpu_fault, hold, settle
from worker.engine import checkpoint, failpoint
from worker.engine.compiled import Compiled
from worker.engine.data import store
from worker.engine.data.split import split_dataset
from worker.engine.distill import distill
from worker.engine.errors import EngineError, OutOfMemory, RankLost
from worker.engine.events import EpochFinished, Event, Progress
from worker.engine.memory import first_line, out_of_memory
from worker.engine.network import Network
from worker.engine.precision import resolve
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher
from worker.phases import Phase, batch_size_field, phases
from worker.progress import Tracker
from worker.ranks import Member, Mute, Ranks
from worker.sandbox import Protections
from worker.together import groups, take_turns

CHECKPOINTS, OUTBOX, BUNDLE = Path("checkpoints"), Path("outbox"), Path("bundle")


class Stopped(Exception):
    """Asked to stop, and the checkpoint is written."""


class Job:
    """One job as the child sees it."""

    def __init__(self, plan: dict[str, Any], emitter: Emitter, protections: Protections, member: Member) -> None:
        self.spec = JobSpec.model_validate(plan["spec"])
        self.member = member
        self.emitter = emitter if member.rank == 0 else Mute(emitter.descriptor)
        self.protections = protections
        self.checkpoint_seconds = float(plan["checkpoint_seconds"])
        self.stop = threading.Event()
        stored = store.load(Path("dataset")).resized(self.spec.dataset.input_size, alive=self.emitter.alive)
        self.dataset = split_dataset(stored, validation=self.spec.dataset.validation, seed=self.spec.training.seed)
        self.tracker = Tracker(self.spec, self.dataset)
        self.settled = member.settled or settle(
            self.spec,
            devices=plan["devices"],
            earlier=plan["settled"],
            suits_bf16=lambda: suits_bf16(self.spec, self.dataset),
            warn=lambda message: self.emitter.emit("warning", message=message),
        )
        self.emitter.emit("plan", **self.settled)
        # several ranks would empty one file under each other; their students are the same without it, bit by bit
        self.table_limit = int(plan["table_limit_bytes"]) if self.settled["ranks"] == 1 else 0
        self.device = hold(self.settled, member.rank)
        self.precision = resolve(self.settled["precision"], self.device)
        # the cores of a CPU are busy with one, and the CUDA graphs of several would share their memory
        self.together = self.device.type == "cuda" and not self.settled["compiled"]

    def run(self) -> None:
        """Train every phase, compare, write the bundle; of several ranks, each trains and the first does the rest."""
        failpoint.reach("child.start")
        with Ranks(self.member, self.settled, self.device, self.emitter) as ranks:
            self.team = ranks.team
            self.files = recorded_teachers(self.spec, self.dataset, self.device)
            trained, networks = self._train_all()
            self.team.leave()
        if self.member.rank > 0:
            return
        result = write_bundle(
            BUNDLE,
            spec=self.spec,
            dataset=self.dataset,
            runs=trained,
            networks=networks,
            files=self.files,
            settled=self.settled,
            protections=self.protections,
            on_stage=lambda stage: self.emitter.emit("stage", stage=stage),
            alive=self.emitter.alive,
        )
        self.emitter.emit("result", result=result)
        failpoint.reach("child.result")

    def _train_all(self) -> tuple[dict[str, Run], dict[str, Network]]:
        """The runs by their phases, and every network, the given ones too."""
        ready = ready_teachers(self.spec, self.dataset)
        rehearse(self.spec, self.dataset, ready, self.files)
        train, held_out = self.dataset.train.to(self.device), self.dataset.validation
        self.placed = replace(
            self.dataset, train=train, validation=None if held_out is None else held_out.to(self.device)
        )
        trained: dict[str, Run] = {}
        networks = {name: network.to(self.device) for name, network in ready.items()}
        stages = {"teacher": "teacher", "generation": "training", "student": "training", "control": "control"}
        for group in groups(phases(self.spec), together=self.together):
            self.emitter.emit("stage", stage=stages[group[0].kind])
            runs = [(phase, self._build(phase, networks)) for phase in group]
            take_turns([self._train(phase, run) for phase, run in runs], self.device)
            if self.stop.is_set():
                raise Stopped
            for phase, run in runs:
                _tell_of_the_table(phase, run)
                _tell_of_compiling(phase, run)
                run.student.body.load_state_dict(run.result_state())
                self.team.agree(run.student.body)
                trained[phase.name], networks[phase.name] = run, run.student
        return trained, networks

    def _build(self, phase: Phase, networks: Mapping[str, Network]) -> Run:
        run = build_run(
            self.spec,
            phase,
            self.placed,
            teacher=teacher_of(self.spec, phase, networks, self.files),
            device=self.device,
            precision=self.precision,
            team=self.team,
            table_limit=self.table_limit,
        )
        run.alive = self.emitter.alive
        for warning in run.warnings:
            self.emitter.emit("warning", message=f"{phase.name}: {warning}")
        return run

    def _train(self, phase: Phase, run: Run) -> Iterator[None]:
        """One phase, from its checkpoint if there is one, to its end or to a stop; others may go on in between."""
        file = CHECKPOINTS / f"{phase.name}.pt"
        if file.exists():
            saved = checkpoint.load(file)
            run.load_state_dict(saved["run"])
            if saved["complete"]:
                self.tracker.finish(phase.name)
                return
        saved_at = time.monotonic()
        for event in self._events(phase, run):
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
                return
            if time.monotonic() - saved_at >= self.checkpoint_seconds:
                self._save(phase, run, complete=False)
                saved_at = time.monotonic()
            yield
        self._save(phase, run, complete=True)
        self.tracker.finish(phase.name)

    def _events(self, phase: Phase, run: Run) -> Iterator[Event]:
        """Of the training; a batch that does not fit is named by its field of the spec."""
        try:
            yield from distill(run)
        except OutOfMemory as error:
            error.remedy = error.advice(batch_size_field(self.spec, phase), error.fits)
            raise

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
        if self.member.rank > 0:
            return
        name = f"{phase.name}-{run.epoch:06d}-{run.step:08d}{'-complete' if complete else ''}.pt"
        checkpoint.save(OUTBOX / name, {"run": run.state_dict(), "complete": complete})
        self.emitter.emit("checkpoint", phase=phase.name, complete=complete, epoch=run.epoch, step=run.step, file=name)


def _tell_of_the_table(phase: Phase, run: Run) -> None:
    """Into the job's log: what the teacher's view table saved, where the method asks for what it holds."""
    if isinstance(run.teacher, LiveTeacher) and (table := run.teacher.table) is not None and table.looked_up:
        asked = f"{table.looked_up} outputs of the teacher were asked for, {table.written} computed, the others read"
        full = "; the disk was full" if table.is_full else ""
        print(f"{phase.name}: {asked} from the view table; at first {run.table_found}{full}")


def _tell_of_compiling(phase: Phase, run: Run) -> None:
    """Into the job's log: what compiled steps cost before they came."""
    if isinstance(run.forward, Compiled):
        each = (f"{seconds:.1f} s for batches of {size}" for size, seconds in run.forward.seconds.items())
        print(f"{phase.name}: compiling took {', '.join(each) or 'no time'}")


def run(arguments: Sequence[str], emitter: Emitter, protections: Protections) -> int:
    """Do what ``plan.json`` says; the exit status and the last event say how it went."""
    member = Member.of(arguments)
    plan = json.loads(Path("plan.json").read_text())
    try:
        job = Job(plan, emitter, protections, member)
        signal.signal(signal.SIGTERM, lambda *_: job.stop.set())
        job.run()
    except Stopped:
        return EXIT_STOPPED
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor is told
        if isinstance(error, RankLost) and member.rank > 0:
            return 1  # whoever was lost, or saw it, has said so
        reason, detail = _explain(error)
        emitter.emit("failed", reason=reason, detail=detail)
        return 1
    return 0


def _explain(error: Exception) -> tuple[str, str]:
    """The reason an error stands for, and its sentence; a defect's traceback goes to the job's log."""
    if isinstance(error, EngineError):
        return error.reason, f"{error} {error.remedy}".strip()
    if out_of_memory(error):
        said = f"the job needs more memory than there is ({first_line(error).rstrip('.')})"
        return "out_of_memory", f"{said}. Use smaller networks, or a smaller batch_size or input_size."
    if gpu_fault(error):
        return "gpu_fault", first_line(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return "storage_error", f"the scratch folder: {error.strerror}; free some space"
    traceback.print_exception(error)
    return "internal", f"{type(error).__name__}: {error}"
