"""``stillhouse doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import text

from app.config import Settings
from app.db import Database
from app.migrate import pending
from app.queue import create_celery
from app.storage import open_storage

_LEAST_FREE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "error"]
    detail: str


def doctor(settings: Settings, *, as_json: bool) -> int:
    """Print what was found; 0 when nothing is wrong, 1 otherwise."""
    findings = list(_examine(settings))
    if as_json:
        print(json.dumps({"object": "list", "data": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            print(f"{finding.state:8} {finding.name:12} {finding.detail}")
    return 1 if any(finding.state == "error" for finding in findings) else 0


def _examine(settings: Settings) -> Iterator[Finding]:
    python = sys.version.split()[0]
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "error", python)
    yield _try(
        "data dir", lambda: _data_dir(settings.data_dir), "choose another with STILLHOUSE_DATA_DIR, or mend its rights"
    )
    yield _try("disk", lambda: _disk(settings.data_dir), "free some space")
    yield _try("database", lambda: _database(settings), "check STILLHOUSE_DATABASE_URL; run: stillhouse migrate")
    yield _try("broker", lambda: _broker(settings), "check STILLHOUSE_BROKER_URL; jobs wait, none is lost")
    yield _try("storage", lambda: _storage(settings), "check STILLHOUSE_STORAGE_URL and its rights")
    yield _try("torch", _torch, "install the worker extra: pip install -e '.[worker]'")
    yield _asked("sandbox", "worker.sandbox")
    if settings.training_memory_bytes is not None:
        yield _asked("memory limit", "worker.cgroup")


def _try(name: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(name, "ok", look())
    except Exception as error:  # noqa: BLE001  # a doctor reports whatever it meets
        return Finding(name, "error", f"{error}; {remedy}".replace("\n", " "))


def _data_dir(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.write_text("")
    probe.unlink()
    return str(folder)


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        raise OSError(f"only {free / 2**30:.1f} GiB free in {folder}")
    return f"{free / 2**30:.1f} GiB free"


def _database(settings: Settings) -> str:
    database = Database(settings.database_url)
    try:
        with database.reading() as session:
            session.execute(text("SELECT 1"))
        if pending(settings.database_url):
            raise RuntimeError("the database is not migrated")
    finally:
        database.dispose()
    return database.engine.url.render_as_string(hide_password=True)


def _broker(settings: Settings) -> str:
    with create_celery(settings).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        return str(connection.as_uri())


def _storage(settings: Settings) -> str:
    open_storage(settings.storage_url).check()
    return settings.storage_url


def _torch() -> str:
    return f"torch {importlib.metadata.version('torch')}, torchvision {importlib.metadata.version('torchvision')}"


def _asked(name: str, module: str) -> Finding:
    """What a child started from here is held to: asked of a real one."""
    tree = Path(__file__).resolve().parent.parent
    asked = subprocess.run(
        [sys.executable, "-m", module], cwd=tree, capture_output=True, text=True, timeout=60, check=False
    )
    if asked.returncode != 0:
        return Finding(name, "error", asked.stderr.strip().splitlines()[-1] if asked.stderr else "the probe failed")
    found = json.loads(asked.stdout)
    missing = [f"missing: {', '.join(found['missing'])}"] if found["missing"] else []
    return Finding(name, "warning" if missing else "ok", "; ".join([", ".join(found["held"]), *missing]).lstrip("; "))
