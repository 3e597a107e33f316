"""A worker's sign of life on its own disk: a file that it touches, for a health check that must cost nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def give(data_dir: Path, *, host: str, name: str) -> None:
    """Touch this worker's file."""
    file = _folder(data_dir, host) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def take_back(data_dir: Path, *, host: str, name: str) -> None:
    """The worker has ended."""
    (_folder(data_dir, host) / name).unlink(missing_ok=True)


def fresh(data_dir: Path, *, host: str, within: float, now: float) -> bool:
    """Whether a worker of this host gave a sign not longer ago than ``within`` seconds."""
    given = []
    for file in _folder(data_dir, host).glob("*"):
        with suppress(FileNotFoundError):  # taken back since it was listed
            given.append(file.stat().st_mtime)
    return any(now - moment <= within for moment in given)


def _folder(data_dir: Path, host: str) -> Path:
    return data_dir / "alive" / host
