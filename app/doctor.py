"""``stillhouse doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from sqlalchemy import make_url, select, text

from app.config import Settings
from app.db import Database
from app.lifecycle.fleet import complaint
from app.migrate import pending
from app.queue import create_celery
from app.storage import open_storage
from app.tables import Job, Worker

_LEAST_FREE_BYTES = 2 * 2**30
_TREE = Path(__file__).resolve().parent.parent


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
    """Look, and change nothing: what is not there yet is said, not made."""
    python = sys.version.split()[0]
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "error", python)
    yield _try(
        "data dir", lambda: _folder(settings.data_dir), "choose another with STILLHOUSE_DATA_DIR, or mend its rights"
    )
    yield _try("disk", lambda: _disk(settings.data_dir), "free some space")
    database = _try("database", lambda: _database(settings), "check STILLHOUSE_DATABASE_URL; run: stillhouse migrate")
    yield database
    yield _try("broker", lambda: _broker(settings), "check STILLHOUSE_BROKER_URL; jobs wait, none is lost")
    yield _try("storage", lambda: _storage(settings), "check STILLHOUSE_STORAGE_URL and its rights")
    if database.state == "ok":
        yield from _fleet(settings)
    if not (_TREE / "worker").is_dir():
        yield Finding("worker", "ok", "not installed here; an API needs none")
        return
    yield _try("torch", _torch, "install the worker extra: pip install -e '.[worker]'")
    if shutil.which("g++") is None:
        yield Finding("compiler", "warning", "no g++ here: jobs with training.compile fail; install it to take them")
    yield _asked("sandbox", "worker.sandbox")
    if settings.training_memory_bytes is not None:
        yield _asked("memory limit", "worker.cgroup")


def _try(name: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(name, "ok", look())
    except Exception as error:  # noqa: BLE001  # a doctor reports whatever it meets
        return Finding(name, "error", f"{error}; {remedy}".replace("\n", " "))


def _folder(folder: Path) -> str:
    """A folder that can be written to, or made at the first start."""
    found = _existing(folder)
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise OSError(f"{found} cannot be written to")
    return str(folder) if found == folder else f"{folder}, which the first start makes"


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(_existing(folder)).free
    if free < _LEAST_FREE_BYTES:
        raise OSError(f"only {free / 2**30:.1f} GiB free in {folder}")
    return f"{free / 2**30:.1f} GiB free"


def _database(settings: Settings) -> str:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise FileNotFoundError(f"there is no database {url.database} yet")  # to connect would make it
    database = Database(settings.database_url)
    try:
        with database.reading() as session:
            session.execute(text("SELECT 1"))
        if pending(settings.database_url):
            raise RuntimeError("the database is not migrated")
    finally:
        database.dispose()
    return url.render_as_string(hide_password=True)


def _broker(settings: Settings) -> str:
    url = urlsplit(settings.broker_url)
    if url.scheme == "filesystem":
        return _folder(Path(unquote(url.path)))
    with create_celery(settings).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
    return settings.broker_url.replace(f":{url.password}@", ":***@") if url.password else settings.broker_url


def _storage(settings: Settings) -> str:
    url = urlsplit(settings.storage_url)
    if url.scheme == "file":
        return _folder(Path(unquote(url.path)))
    open_storage(settings.storage_url).check()
    return settings.storage_url


def _fleet(settings: Settings) -> Iterator[Finding]:
    """Workers that are unfit, and jobs that wait for workers that are not there."""
    database = Database(settings.database_url)
    with database.reading() as session:
        workers = session.scalars(select(Worker).order_by(Worker.name)).all()
        for row in workers:
            if row.state == "unfit":
                yield Finding("worker", "warning", f"{row.name} takes no jobs: {row.reason}")
        places = select(Job.queue, Job.gpus).where(Job.kind == "distillation", Job.status == "queued").distinct()
        for queue, gpus in session.execute(places.order_by(Job.queue, Job.gpus)):
            if (found := complaint(session, queue, gpus=gpus, lease_seconds=settings.lease_seconds)) is not None:
                yield Finding("queue", "warning", f"jobs wait: {found}")
    database.dispose()


def _torch() -> str:
    return f"torch {importlib.metadata.version('torch')}, torchvision {importlib.metadata.version('torchvision')}"


def _asked(name: str, module: str) -> Finding:
    """What a child started from here is held to: asked of a real one."""
    asked = subprocess.run(
        [sys.executable, "-m", module], cwd=_TREE, capture_output=True, text=True, timeout=60, check=False
    )
    if asked.returncode != 0:
        return Finding(name, "error", asked.stderr.strip().splitlines()[-1] if asked.stderr else "the probe failed")
    found = json.loads(asked.stdout)
    missing = [f"missing: {', '.join(found['missing'])}"] if found["missing"] else []
    return Finding(name, "warning" if missing else "ok", "; ".join([", ".join(found["held"]), *missing]).lstrip("; "))
