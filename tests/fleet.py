"""``stillhouse api`` and ``stillhouse worker``, any number of each, as processes on one database and one broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.harness import QUICK, TREE, Remote, eventually
from tests.servers import free_port


class Fleet:
    """The processes, started one by one, gone afterwards, also when this process is killed."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self.apis: list[Remote] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._serving: dict[Remote, subprocess.Popen[bytes]] = {}
        self._lifeline, self._held = os.pipe()
        self._run([sys.executable, "-m", "app", "migrate"])
        scopes = ["--scopes", "admin", "--json"]
        self.key = json.loads(self._run([sys.executable, "-m", "app", "keys", "create", *scopes]))["key"]

    @property
    def data_dir(self) -> Path:
        """Shared by all of them, as on one host."""
        return self.folder / "data"

    def api(self, *, wrapper: Sequence[str] = (), **settings: str) -> Remote:
        """Start another API, through ``wrapper`` if given; a client for it."""
        remote = Remote(self.folder / f"api-{len(self.apis)}.log")
        remote.connect(f"http://127.0.0.1:{free_port()}", self.key)
        self.apis.append(remote)
        self._serve(remote, wrapper=wrapper, **settings)
        return remote

    def restart(self, api: Remote) -> None:
        """End an API as an operator would, and start another one on its port."""
        end(self._serving[api])
        self._serve(api)

    def worker(self, *, wrapper: Sequence[str] = (), **settings: str) -> subprocess.Popen[bytes]:
        """Start another worker, through ``wrapper`` if given."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = self.start(["-m", "worker"], log, wrapper=wrapper, **settings)
        self.workers.append(worker)
        return worker

    def start(
        self, arguments: Sequence[str], log: Path, *, wrapper: Sequence[str] = (), **settings: str
    ) -> subprocess.Popen[bytes]:
        """Any other process of the fleet, by Python's arguments."""
        with log.open("ab") as writing:
            process = subprocess.Popen(
                [*wrapper, sys.executable, *arguments, "--lifeline", str(self._lifeline)],
                cwd=TREE,
                env=self._environment(**settings),
                pass_fds=(self._lifeline,),
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End them all as an operator would."""
        for process in reversed(self._processes):
            end(process)
        for api in self.apis:
            api.http.close()
        os.close(self._lifeline)
        os.close(self._held)

    def _serve(self, remote: Remote, *, wrapper: Sequence[str] = (), **settings: str) -> None:
        arguments = ["-m", "app", "api", "--port", str(remote.http.base_url.port)]
        self._serving[remote] = self.start(arguments, remote.log, wrapper=wrapper, **settings)
        eventually(lambda: _answers(remote), what=lambda: f"an API to be ready; its log:\n{_tail(remote.log)}")

    def _run(self, command: Sequence[str]) -> str:
        environment = self._environment()
        return subprocess.run(command, cwd=TREE, env=environment, check=True, capture_output=True, text=True).stdout

    def _environment(self, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STILLHOUSE_")}
        return {**kept, **QUICK, "STILLHOUSE_DATA_DIR": str(self.data_dir), **self.settings, **settings}


@contextmanager
def fleet(folder: Path, **settings: str) -> Iterator[Fleet]:
    """A fleet without a process yet."""
    running = Fleet(folder, **settings)
    try:
        yield running
    finally:
        running.stop()


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """Signal a process, frozen or not, and wait until it has ended."""
    if process.poll() is None:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _answers(remote: Remote) -> bool:
    try:
        return remote.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _tail(log: Path) -> str:
    return log.read_text()[-3000:]
