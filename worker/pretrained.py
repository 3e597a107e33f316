"""The child that fetches a library's published weights: it has network, and sees no file of a user's.

Their folder is STILLHOUSE_DATASETS_DIR/weights where the file lies there, else the library's own server.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from worker.child import Emitter
from worker.engine import weights
from worker.engine.architecture import Published
from worker.engine.architectures import published
from worker.engine.errors import EngineError
from worker.engine.network import Preprocessing
from worker.sandbox import Protections

MADE = Path("weights")


def run(arguments: Sequence[str], emitter: Emitter, _protections: Protections) -> int:
    """Write ``weights/`` into the current folder, or say what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m worker.child pretrained")
    parser.add_argument("name")
    parser.add_argument("--datasets-dir", type=Path)
    options = parser.parse_args(arguments)
    found = published(options.name)
    if found is None:
        detail = f"no weights are published for {options.name}; name an uploaded model or a job"
        emitter.emit("failed", reason="bad_weights", detail=detail)
        return 1
    try:
        fetch(found, options.datasets_dir, MADE)
    except (OSError, RuntimeError, ValueError, EngineError) as error:
        detail = f"the weights of {options.name}: {error}".replace("\n", " ")
        emitter.emit("failed", reason="download_failed", detail=detail)
        return 1
    return 0


def fetch(found: Published, datasets_dir: Path | None, made: Path) -> None:
    """Get the file, check it, and write it in the staged form. Raises OSError, RuntimeError, WeightsRefused."""
    drafts = Path("drafts")
    drafts.mkdir()
    file = drafts / Path(found.files[0]).name
    folder = datasets_dir / "weights" if datasets_dir is not None else None
    given = [folder / each for each in found.files if (folder / each).is_file()] if folder is not None else []
    if given:
        shutil.copyfile(given[0], file)
    else:
        _download(found, file, folder)
    digest = _sha256(file)
    if not digest.startswith(found.sha256_prefix):
        source = given[0] if given else found.url
        raise OSError(f"the file from {source} has sha256 {digest}, not {found.sha256_prefix}...; fetch it again")
    weights.read(file)  # nothing that needs code to load
    body = found.load(file)
    parameters = sum(parameter.numel() for parameter in body.parameters())
    preprocessing = Preprocessing(found.shape, found.mean, found.std)
    described = weights.describe(found.architecture, "standard", preprocessing, found.classes, parameters)
    weights.save(made, "weights", body.state_dict(), described)


def _download(found: Published, file: Path, folder: Path | None) -> None:
    try:
        torch.hub.download_url_to_file(found.url, str(file), progress=False)
    except OSError as error:
        where = f"{found.files[0]} is not in {folder}" if folder is not None else "STILLHOUSE_DATASETS_DIR is not set"
        raise OSError(f"{where}, and the download of {found.url} failed: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
