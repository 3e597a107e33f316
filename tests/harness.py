"""A real service in real processes, for tests and benchmarks that kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx

from app.config import Settings
from tests.servers.backends import backend as started_backend

TREE = Path(__file__).resolve().parent.parent
Target = Literal["child", "worker", "api", "all"]
Value = TypeVar("Value")

QUICK = {
    "STILLHOUSE_HEARTBEAT_SECONDS": "0.5",
    "STILLHOUSE_LEASE_SECONDS": "3",
    "STILLHOUSE_POLL_SECONDS": "0.5",
    "STILLHOUSE_UPKEEP_SECONDS": "0.5",
    "STILLHOUSE_CHECKPOINT_SECONDS": "0.3",
}
"""Settings under which a fault is noticed in seconds."""


class Remote:
    """What can be asked of a running service from the outside."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.http = httpx.Client(timeout=30, follow_redirects=True)  # to the store; the key stays behind

    def connect(self, url: str, key: str) -> None:
        """Ask the API at ``url`` from now on."""
        self.http.base_url = httpx.URL(url)
        self.http.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str, **params: Any) -> Any:
        """The JSON behind ``path``; a killed API, or a database that is away, is asked again."""
        for _ in range(300):
            try:
                response = self.http.get(path, params=params)
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if response.status_code == 503:
                time.sleep(0.1)
                continue
            response.raise_for_status()
            return response.json()
        raise AssertionError(f"GET {path} found no server")

    def submit(self, spec: dict[str, Any]) -> str:
        """Send a job; its id."""
        response = self.http.post("/v1/jobs", json=spec)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it stands."""
        return dict(self.get(f"/v1/jobs/{job_id}"))

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Every event of the job, in order."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"/v1/jobs/{job_id}/events", after_seq=len(found), limit=200)
            found += page["data"]
            if not page["has_more"]:
                return found

    def metrics(self, job_id: str) -> dict[str, list[tuple[int, float | None]]]:
        """Every metric, as (step, value)."""
        data = self.get(f"/v1/jobs/{job_id}/metrics", max_points=5000)["data"]
        return {name: list(zip(series["step"], series["value"], strict=True)) for name, series in data.items()}

    def artifact(self, job_id: str, name: str) -> bytes:
        """The bytes of a published file."""
        (row,) = [row for row in self.get(f"/v1/jobs/{job_id}/artifacts")["data"] if row["name"] == name]
        return self.http.get(f"/v1/artifacts/{row['id']}/content").raise_for_status().content

    def wait(self, job_id: str, *, seconds: float = 400) -> dict[str, Any]:
        """The job once it has ended."""
        eventually(
            lambda: self.job(job_id)["terminal"],
            seconds=seconds,
            what=lambda: f"{job_id} to end; it is {self.job(job_id)}; log:\n{self.log.read_text()[-4000:]}",
        )
        return self.job(job_id)

    def child(self, job_id: str) -> int | None:
        """The process of the attempt that runs now."""
        attempts = self.get(f"/v1/jobs/{job_id}/attempts")["data"]
        return next((row["pid"] for row in attempts if row["ended_at"] is None and row["pid"]), None)


class Service(Remote):
    """``stillhouse serve`` on a data directory of its own, and a client for it."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.settings = settings
        super().__init__(data_dir.with_suffix(".log"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLHOUSE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", str(self.data_dir)],
                cwd=TREE,
                env={**environment, **QUICK, **self.settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.data_dir / "url").unlink(missing_ok=True)
        eventually(self._ready, what=lambda: f"the service to be ready; its log:\n{self.log.read_text()[-4000:]}")

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            url = (self.data_dir / "url").read_text().strip()
            key = (self.data_dir / "api-key").read_text().strip()
            ready = httpx.get(f"{url}/readyz").status_code == 200
        except (FileNotFoundError, httpx.TransportError):
            return False
        self.connect(url, key)
        return ready

    def stop(self) -> None:
        """End it as an operator would, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=60)

    @property
    def database_url(self) -> str:
        """Of its database, for tests that look inside."""
        return self.settings.get("STILLHOUSE_DATABASE_URL") or Settings(data_dir=self.data_dir).database_url

    def pids(self) -> dict[str, int]:
        """The processes of the service by their part."""
        assert self.process is not None
        found = {}
        for pid in filter(alive, _children(self.process.pid)):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found["api" if b"api" in command else "worker"] = pid
        return found

    def kill(self, target: Target, job_id: str) -> bool:
        """kill -9 of a part, or of all at once with a new start; whether there was something to kill."""
        assert self.process is not None
        if target == "all":
            victims = [self.process.pid, *self.pids().values()]
            if (child := self.child(job_id)) is not None:
                victims.append(child)
            for pid in victims:
                kill(pid)
            self.process.wait()
            self.start()
            return True
        victim = self.child(job_id) if target == "child" else self.pids().get(target)
        return victim is not None and kill(victim)


def kill(pid: int) -> bool:
    """kill -9; whether the process was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], Value], *, what: Callable[[], str] | str, seconds: float = 60) -> Value:
    """The first true value of ``condition``. The bound is there to end a hung test, and is no measurement."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what() if callable(what) else what}")


@contextmanager
def service(data_dir: Path, *, backend: str = "embedded", **settings: str) -> Iterator[Service]:
    """A running service on a backend of its own, gone afterwards."""
    with started_backend(backend) as urls:
        running = Service(data_dir, **urls, **settings)
        try:
            running.start()
            yield running
        finally:
            running.stop()
            running.http.close()


def _children(pid: int) -> list[int]:
    listed = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for line in listed for child in line.split()]
