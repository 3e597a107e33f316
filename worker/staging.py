"""Bringing what an attempt needs into its scratch folder: the data set, the newest checkpoint of each phase."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.config import Settings
from app.storage import Storage
from app.tables import Checkpoint
from worker.sandbox import Child, spawn, take_back


def is_kept(settings: Settings, name: str) -> bool:
    """Whether this worker has the data set's files."""
    return (_kept(settings, name) / "dataset.json").exists()


def start_fetching(settings: Settings, name: str, scratch: Path) -> Child:
    """The fetching child, which has network but sees no user's file. ``keep`` takes what it made.

    ``name`` is one of the catalog's names, checked when the job was stored.
    """
    (scratch / "fetch").mkdir()
    arguments = [name]
    if settings.datasets_dir is not None:
        arguments += ["--datasets-dir", str(settings.datasets_dir.expanduser().resolve())]
    return spawn("fetch", arguments, folder=scratch / "fetch", network=True)


def keep(settings: Settings, name: str, scratch: Path) -> None:
    """Move what the fetching child made into the data folder, as a whole."""
    made, kept = scratch / "fetch" / "dataset", _kept(settings, name)
    take_back(made)
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(kept)
    except OSError:  # another slot was faster: its copy is as good
        if not is_kept(settings, name):
            raise
    shutil.rmtree(scratch / "fetch", ignore_errors=True)


def stage_dataset(settings: Settings, name: str, scratch: Path) -> None:
    """Copy the data set's files into ``scratch/dataset``; a copy, since the scratch folder is given to the child."""
    target = scratch / "dataset"
    target.mkdir()
    for file in sorted(_kept(settings, name).iterdir()):
        shutil.copyfile(file, target / file.name)


def _kept(settings: Settings, name: str) -> Path:
    return settings.data_dir / "datasets" / name


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
