"""``stillhouse serve``: API and one worker as processes that it supervises, on one data directory that it locks."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.accounts.service import bootstrap
from app.config import Settings
from app.db import Database
from app.failing import CannotStart
from app.lifecycle.upkeep import release
from app.migrate import upgrade
from app.storage import open_storage
from app.tables import ApiKey

logger = logging.getLogger(__name__)

_STOP_SECONDS = 60
_RESTART_PAUSE_SECONDS = 1.0
_QUICK_DEATH_SECONDS = 5.0


@dataclass
class Part:
    """One supervised process."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    lifelines: list[int] = field(default_factory=list)
    started: float = 0.0
    quick_deaths: int = 0

    def start(self) -> None:
        """Start it, holding the pipe whose end it dies with."""
        self.started = time.monotonic()
        for old in self.lifelines:
            os.close(old)
        reading, writing = os.pipe()
        self.lifelines = [writing]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.arguments, "--lifeline", str(reading)],
            env=self.environment,
            pass_fds=(*self.pass_fds, reading),
            start_new_session=True,
        )
        os.close(reading)

    def ended(self) -> bool:
        """Whether it has ended, which it should not."""
        if self.process is None or self.process.poll() is None:
            return False
        logger.error("%s ended with status %s; starting it again", self.name, self.process.returncode)
        return True

    def pause(self) -> float:
        """Seconds to wait before the next start: more after each death that came soon, at most half a minute."""
        quick = time.monotonic() - self.started < _QUICK_DEATH_SECONDS
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        return float(min(_RESTART_PAUSE_SECONDS * 2 ** max(self.quick_deaths - 3, 0), 30.0))

    def ask_to_stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, deadline: float) -> None:
        """Until it has ended; past ``deadline`` (monotonic) it is killed."""
        assert self.process is not None
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(settings: Settings, *, host: str, port: int) -> int:
    """Run until SIGTERM or SIGINT. Raises CannotStart for what a person can mend."""
    with _locked(settings.data_dir), _listening(host, port) as listener:
        name = _instance_name(settings.data_dir)
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        _prepare(settings, owner=name, url=url)
        environment = {
            **os.environ,
            "STILLHOUSE_DATA_DIR": str(settings.data_dir),
            "STILLHOUSE_WORKER_NAME": name,
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }
        api = Part("api", ["app", "api", "--fd", str(listener.fileno())], environment, (listener.fileno(),))
        worker = Part("worker", ["worker"], environment)
        print(f"Stillhouse serves {url}\nadmin key in {settings.data_dir / 'api-key'}", flush=True)
        _supervise(settings, [api, worker], owner=name)
    return 0


def _supervise(settings: Settings, parts: list[Part], *, owner: str) -> None:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    database = Database(settings.database_url)
    for part in parts:
        part.start()
    while not stop.wait(0.2):
        for part in parts:
            if not part.ended():
                continue
            if part.name == "worker":
                _release(settings, database, owner)
            stop.wait(part.pause())
            if not stop.is_set():
                part.start()
    for part in parts:
        part.ask_to_stop()
    deadline = time.monotonic() + _STOP_SECONDS
    for part in parts:
        part.wait(deadline)
    database.dispose()


def _release(settings: Settings, database: Database, owner: str) -> None:
    """End the leases of the worker that died; when the database does not answer they run out by themselves."""
    try:
        release(database, owner=owner, max_losses=settings.max_losses)
    except SQLAlchemyError as error:
        logger.warning("could not end the leases of a dead worker; they will run out: %s", error)


def _prepare(settings: Settings, *, owner: str, url: str) -> None:
    """Look at the storage, migrate, end the dead worker's leases, make the admin key on the first start."""
    open_storage(settings.storage_url)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    release(database, owner=owner, max_losses=settings.max_losses)
    key_file = settings.data_dir / "api-key"
    with database.transaction() as session:
        first = session.scalar(select(ApiKey.id).limit(1)) is None
        if first or not key_file.exists():
            _write_private(key_file, bootstrap(session).key)
    database.dispose()
    (settings.data_dir / "url").write_text(url + "\n")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")


@contextmanager
def _locked(data_dir: Path) -> Iterator[IO[str]]:
    """The directory belongs to one ``serve``; the kernel frees the lock however this process ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (data_dir / "lock").open("a+")
    except OSError as error:
        remedy = "choose another with --data-dir, or mend its rights"
        raise CannotStart(f"cannot write to the data directory {data_dir}: {error.strerror}; {remedy}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            remedy = "stop that one, or choose another directory with --data-dir"
            raise CannotStart(f"{data_dir} is in use by another serve (process {holder}); {remedy}") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The API's socket, kept open here, so that connections wait while the API is started again."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
            raise CannotStart(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with {option}"
            ) from error
        listener.listen(128)
        listener.set_inheritable(True)
        yield listener


def _instance_name(data_dir: Path) -> str:
    """The name this directory's worker holds leases under, the same at each start."""
    file = data_dir / "instance"
    if not file.exists():
        file.write_text(f"serve-{os.urandom(6).hex()}")
    return file.read_text().strip()
