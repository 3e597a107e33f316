"""Bringing what an attempt needs into its scratch folder: the data set, the newest checkpoint of each phase."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.config import Settings
from app.errors import StorageError
from app.storage import Storage
from app.tables import Checkpoint
from worker.sandbox import spawn

FETCH_TIMEOUT_SECONDS = 3600


class DownloadFailed(Exception):
    """A built-in data set could not be had; ``str()`` is the fetching child's own words."""


def stage_uploaded(storage: Storage, files: Mapping[str, Mapping[str, Any]], scratch: Path) -> None:
    """Put an uploaded data set's stored form into ``scratch/dataset``. Raises StorageError when it is not as stored."""
    target = scratch / "dataset"
    target.mkdir()
    for name, file in files.items():
        try:
            fetched = storage.fetch(file["key"], target / name)
        except OSError as error:
            raise StorageError(f"{file['key']} cannot be read: {error.strerror}") from error
        if fetched.sha256 != file["sha256"]:
            raise StorageError(f"{file['key']} is damaged: its sha256 is not the one that was stored")


def stage_dataset(settings: Settings, name: str, scratch: Path) -> None:
    """Put the data set's files into ``scratch/dataset``, fetching them into the data folder first if need be.

    ``name`` is one of the catalog's names, checked when the job was stored.
    """
    kept = settings.data_dir / "datasets" / name
    if not (kept / "dataset.json").exists():
        _fetch(settings, name, kept, scratch)
    target = scratch / "dataset"
    target.mkdir()
    for file in sorted(kept.iterdir()):
        shutil.copyfile(file, target / file.name)  # a copy: the scratch folder is given to the child's uid


def _fetch(settings: Settings, name: str, kept: Path, scratch: Path) -> None:
    """Run the fetching child, which has network but sees no user's file, and keep what it made as a whole."""
    folder = scratch / "fetch"
    folder.mkdir()
    arguments = [name]
    if settings.datasets_dir is not None:
        arguments += ["--datasets-dir", str(settings.datasets_dir.expanduser().resolve())]
    child = spawn("fetch", arguments, folder=folder, network=True)
    try:
        with os.fdopen(os.dup(child.output), "rb") as output:
            said = output.read().decode(errors="replace")
        child.process.wait(timeout=FETCH_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(f"fetching {name} took longer than {FETCH_TIMEOUT_SECONDS} s") from error
    finally:
        child.close()
    if child.process.returncode != 0:
        last = said.strip().splitlines()[-1] if said.strip() else f"exit status {child.process.returncode}"
        raise DownloadFailed(f"data set {name}: {last}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "dataset").rename(kept)
    except OSError:  # another slot was faster: its copy is as good
        if not (kept / "dataset.json").exists():
            raise
    shutil.rmtree(folder, ignore_errors=True)


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
