"""Bringing what an attempt needs into its scratch folder: the data set, the newest checkpoint of each phase."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config import Settings
from app.errors import StorageError
from app.storage import Storage
from app.tables import Checkpoint, UploadPart
from worker.sandbox import Child, spawn, take_back


@dataclass(frozen=True)
class Fetched:
    """What a fetching child makes once and this worker keeps: a built-in data set, published weights."""

    job: str
    """The child's."""
    name: str
    """One of the catalog's, checked when the job was stored."""
    kept: Path
    made: str
    """The folder that the child makes."""
    last: str
    """The file that is written last, so that its presence means that all is there."""

    @property
    def is_kept(self) -> bool:
        """Whether this worker has it."""
        return (self.kept / self.last).exists()


def builtin(settings: Settings, name: str) -> Fetched:
    """A built-in data set."""
    return Fetched("fetch", name, settings.data_dir / "datasets" / name, "dataset", "dataset.json")


def stage_uploaded(storage: Storage, files: Mapping[str, Mapping[str, Any]], scratch: Path) -> None:
    """Put an uploaded data set's stored form into ``scratch/dataset``. Raises StorageError when it is not as stored."""
    target = scratch / "dataset"
    target.mkdir()
    for name, file in files.items():
        try:
            fetched = storage.fetch(file["key"], target / name)
        except OSError as error:
            raise StorageError(f"{file['key']} cannot be read: {error.strerror or error}") from error
        if fetched.sha256 != file["sha256"]:
            raise StorageError(f"{file['key']} is damaged: its sha256 is not the one that was stored")


def stage_upload(storage: Storage, parts: Sequence[UploadPart], target: Path) -> None:
    """Put an upload together from its parts. Raises StorageError when one is not as it arrived."""
    with target.open("wb") as file:
        for part in parts:
            try:
                read = storage.read(part.key, file)
            except OSError as error:
                raise StorageError(f"{part.key} cannot be read: {error.strerror or error}") from error
            if read.bytes != part.bytes or part.sha256 not in (None, read.sha256):
                raise StorageError(f"{part.key} is damaged: its sha256 is not the one that arrived; upload it again")


def start_fetching(settings: Settings, wanted: Fetched, scratch: Path) -> Child:
    """The fetching child, which has network but sees no user's file. ``keep`` takes what it made."""
    (scratch / "fetch").mkdir()
    arguments = [wanted.name]
    if settings.datasets_dir is not None:
        arguments += ["--datasets-dir", str(settings.datasets_dir.expanduser().resolve())]
    return spawn(wanted.job, arguments, folder=scratch / "fetch", network=True)


def keep(wanted: Fetched, scratch: Path) -> None:
    """Move what the fetching child made into the data folder, as a whole."""
    made = scratch / "fetch" / wanted.made
    take_back(made)
    wanted.kept.parent.mkdir(parents=True, exist_ok=True)
    draft = wanted.kept.with_name(f".{uuid.uuid4().hex}.part")
    if made.stat().st_dev != draft.parent.stat().st_dev:  # a rename does not cross file systems
        made = shutil.copytree(made, draft)
    try:
        made.rename(wanted.kept)
    except OSError:  # another slot was faster: its copy is as good
        shutil.rmtree(draft, ignore_errors=True)
        if not wanted.is_kept:
            raise
    shutil.rmtree(scratch / "fetch", ignore_errors=True)


def stage_builtin(wanted: Fetched, scratch: Path) -> None:
    """Copy the data set's files into ``scratch/dataset``; a copy, since the scratch folder is given to the child."""
    target = scratch / "dataset"
    target.mkdir()
    for file in sorted(wanted.kept.iterdir()):
        shutil.copyfile(file, target / file.name)


def stage_checkpoints(
    storage: Storage, found: Mapping[str, Sequence[Checkpoint]], scratch: Path
) -> tuple[str | None, list[str]]:
    """Put the newest sound checkpoint of each phase into ``scratch/checkpoints``.

    A checkpoint whose bytes are not those that were stored is passed over for the one before it.
    Returns the id of the newest one staged, and a sentence for each that was passed over.
    """
    folder = scratch / "checkpoints"
    folder.mkdir()
    newest: str | None = None
    rejected: list[str] = []
    for phase, rows in found.items():
        for row in rows:
            target = folder / f"{phase}.pt"
            try:
                sound = storage.fetch(row.key, target).sha256 == row.sha256
            except FileNotFoundError:
                sound = False
            if sound:
                newest = max(newest or row.id, row.id)
                break
            target.unlink(missing_ok=True)
            rejected.append(f"checkpoint {row.id} of {phase} is damaged; going on from the one before it")
    return newest, rejected


def write_plan(scratch: Path, plan: Mapping[str, object]) -> None:
    """What the child is told: the spec, and what earlier attempts settled."""
    (scratch / "plan.json").write_text(json.dumps(plan))
