"""Workers' scratch folders: each is its worker's own while that lives, and is thrown away by the next one to start."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import IO

from app.failing import CannotStart


def own(data_dir: Path, name: str) -> IO[str]:
    """Take the folder of the worker ``name``, and throw away what dead workers left; keep the answer open.

    The kernel frees the lock however a worker ends. Raises CannotStart when another worker has the name.
    """
    root = data_dir / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for folder in [path for path in root.iterdir() if path.is_dir()]:
            lock = _lock_of(folder)
            with lock.open("a") as file:
                if _locked(file):
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink()
        mine = _lock_of(root / name).open("a")
        if not _locked(mine):
            mine.close()
            remedy = "give each worker its own STILLHOUSE_WORKER_NAME, or none"
            raise CannotStart(f"another worker on {data_dir} is called {name}; {remedy}")
        (root / name).mkdir(exist_ok=True)
    return mine


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
