"""Bringing the weights that a spec names into an attempt's scratch folder, in the form of ``student.json``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.storage import Storage
from app.tables import Artifact, Job, Model
from worker.staging import Fetched

SUFFIXES = (".safetensors", ".json")


class WeightsMissing(Exception):
    """Weights that a spec names are not there any more; ``str()`` says which."""


@dataclass(frozen=True)
class Source:
    """Where one role's weights come from: files of this service, or a library's name."""

    files: tuple[tuple[str, str, str], ...] = ()
    """(suffix, key, sha256)."""
    published: str | None = None


def sources(session: Session, job: Job) -> dict[str, Source]:
    """By the name of its files, each network of ``job`` with weights and where they are. Raises WeightsMissing."""
    teacher = job.spec["teacher"]
    networks = {"student": job.spec["student"]}
    if isinstance(teacher, list):
        networks |= {f"teacher-{index}": each for index, each in enumerate(teacher)}
    elif teacher is not None:
        networks["teacher"] = teacher
    return {
        role: Source(published=network["architecture"])
        if network["weights"] == "pretrained"
        else Source(files=_files_of(session, job.project_id, network["weights"]))
        for role, network in networks.items()
        if network.get("weights") is not None
    }


def published(settings: Settings, name: str) -> Fetched:
    """A library's weights."""
    return Fetched("pretrained", name, settings.data_dir / "weights" / name, "weights", "weights.json")


def _files_of(session: Session, project_id: str, named: str) -> tuple[tuple[str, str, str], ...]:
    """Of an uploaded model or another job's student. Raises WeightsMissing."""
    if not named.startswith("mdl_"):
        return _student_of(session, project_id, named)
    model = session.scalar(select(Model).where(Model.id == named, Model.project_id == project_id))
    if model is None or not model.accepted:
        raise WeightsMissing(f"the model {named} is not in this project any more; name another")
    return tuple((Path(name).suffix, file["key"], file["sha256"]) for name, file in (model.files or {}).items())


def _student_of(session: Session, project_id: str, job_id: str) -> tuple[tuple[str, str, str], ...]:
    """The student of a job of the same project that has succeeded."""
    rows = session.scalars(
        select(Artifact)
        .join(Job, Job.id == Artifact.job_id)
        .where(Artifact.job_id == job_id, Job.project_id == project_id, Job.status == "succeeded")
        .where(Artifact.name.in_([f"student{suffix}" for suffix in SUFFIXES]))
    )
    files = tuple((Path(row.name).suffix, row.key, row.sha256) for row in rows)
    if len(files) != len(SUFFIXES):
        raise WeightsMissing(f"the weights {job_id} are not in this project any more; name others")
    return files


def stage_weights(settings: Settings, storage: Storage, found: Mapping[str, Source], scratch: Path) -> None:
    """Put ROLE.safetensors (or ROLE.onnx) and ROLE.json into ``scratch/weights``. Raises WeightsMissing.

    What is published must be kept by then (see ``published``).
    """
    folder = scratch / "weights"
    folder.mkdir()
    for role, source in found.items():
        if source.published is not None:
            kept = published(settings, source.published).kept
            for suffix in SUFFIXES:
                shutil.copyfile(kept / f"weights{suffix}", folder / f"{role}{suffix}")
        for suffix, key, sha256 in source.files:
            try:
                sound = storage.fetch(key, folder / f"{role}{suffix}").sha256 == sha256
            except FileNotFoundError:
                sound = False
            if not sound:
                raise WeightsMissing(f"a file of the {role}'s weights is damaged or gone; name others")
