"""Children that hang, fork, flood or die in any way: real processes, watched as the supervisor watches a training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.config import Settings
from app.db import Database
from app.lifecycle.lease import Lease
from tests.harness import TREE, alive, eventually
from worker import watch as watching
from worker.heartbeat import Heartbeat
from worker.reporter import Reporter
from worker.sandbox import Child
from worker.watch import Ending, Watch

PIECE = 2**16
LOG_LIMIT = 10 * PIECE
NO_DATABASE = cast("Database", None)
"""Nothing is flushed here."""
ALIVE = """
while True:
    os.write(int(sys.argv[1]), b'{"event": "alive"}' + bytes([10]))
    time.sleep(0.1)
"""


class Started:
    """Starts children of so many lines of Python, and ends whatever is left of them."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, stall_seconds=1, stop_grace_seconds=1)
        self.draining = threading.Event()
        self.said: list[dict[str, Any]] = []
        self.printed = 0
        self.text = ""
        lease = Lease(job_id="job_1", attempt=1, token="t")
        self.reporter = Reporter(NO_DATABASE, lease, log_limit_bytes=LOG_LIMIT, lost=lambda: False)
        self.ends = ExitStack()

    def child(self, code: str) -> Child:
        events, told = os.pipe()
        output, printed = os.pipe()
        watched, lifeline = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", f"import os, signal, sys, time\n{code}", str(told)],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            pass_fds=(told,),
            start_new_session=True,
        )
        for descriptor in (told, printed, watched):
            os.close(descriptor)
        child = Child(process=process, events=events, output=output, lifeline=lifeline)
        self.ends.callback(child.close)
        return child

    def ending(self, child: Child, *, allowed_seconds: float | None = None) -> Ending:
        beat = cast("Heartbeat", SimpleNamespace(lost=False, status="running"))
        watch = Watch(self.settings, beat, self.draining, allowed_seconds=allowed_seconds)
        return watch.until_ended(child, relay=self.said.append, output=self._count, tick=lambda: None)

    def _count(self, text: str) -> None:
        assert len(text) <= PIECE
        self.printed += len(text)
        self.text = (self.text + text)[-100:]
        self.reporter.output(text)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path)
    with made.ends:
        yield made


@pytest.mark.parametrize(
    ("code", "reason", "how"),
    [
        ("sys.exit(0)", None, None),
        ("sys.exit(3)", "worker_lost", "exit status 3"),
        ("os._exit(137)", "worker_lost", "exit status 137"),
        ("raise ValueError('a defect')", "worker_lost", "exit status 1"),
        ("sys.exit(75)", "drained", None),
        ("os.kill(os.getpid(), signal.SIGKILL)", "worker_lost", "signal 9 (SIGKILL)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "worker_lost", "signal 11 (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", "worker_lost", "a real-time signal"),
    ],
)
def test_the_way_a_child_ends_becomes_a_reason(
    started: Started, code: str, reason: str | None, how: str | None
) -> None:
    ending = started.ending(started.child(code))
    assert ending.reason == reason
    assert how is None or how in str(ending.detail)


def test_a_child_that_hangs_is_killed_and_said_to_have_stalled(started: Started) -> None:
    child = started.child("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)")
    ending = started.ending(child)
    assert (ending.reason, ending.exit) == ("stalled", -signal.SIGKILL)
    assert "gave no sign for 1 s" in str(ending.detail)


def test_a_child_that_will_not_stop_is_made_to(started: Started) -> None:
    started.draining.set()
    child = started.child("signal.signal(signal.SIGTERM, signal.SIG_IGN)" + ALIVE)
    ending = started.ending(child)
    assert (ending.reason, ending.exit) == ("drained", -signal.SIGKILL)


def test_signs_of_life_do_not_outlast_the_time_that_is_allowed(started: Started) -> None:
    ending = started.ending(started.child(ALIVE), allowed_seconds=1.5)
    assert (ending.reason, ending.exit) == ("max_runtime", -signal.SIGTERM)
    assert started.said[0] == {"event": "alive"}


def test_a_child_that_floods_its_output_takes_no_memory_and_delays_no_event(started: Started) -> None:
    code = (
        f"for _ in range(1000): os.write(1, b'x' * {PIECE})\nos.write(int(sys.argv[1]), b'{{\"event\": \"end\"}}\\n')"
    )
    ending = started.ending(started.child(code))
    assert ending.reason is None
    assert started.printed == 1000 * PIECE
    assert LOG_LIMIT < sum(map(len, started.reporter._log)) <= LOG_LIMIT + PIECE, "enough to see that there was more"
    assert started.said == [{"event": "end"}]


FORKS = """
if os.fork() == 0:
    {leave}
    print("left", os.getpid(), flush=True)
    time.sleep(600)
os.write(int(sys.argv[1]), b'{{"event": "end"}}' + bytes([10]))
"""


def test_what_a_child_leaves_in_its_group_holds_nobody_up(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the pipes open, whose end would be the end of the child."""
    monkeypatch.setattr(watching, "_AFTERLIFE_SECONDS", 0.5)
    child = started.child(FORKS.format(leave="pass"))
    assert started.ending(child).reason is None
    left = int(started.text.split()[1])
    assert alive(left)
    started.ends.close()
    eventually(lambda: not alive(left), what="what the child had left to end")


ADOPTS = """
import os, subprocess, sys, time
from worker import orphans

orphans.adopt()
helper = subprocess.Popen(["sleep", "600"])
with orphans.starting:
    known = subprocess.Popen(["sleep", "600"], start_new_session=True)
    orphans.started.add(known.pid)
leave = "import os, time; os.fork(); time.sleep(600)"
subprocess.Popen(["sh", "-c", f'setsid {sys.executable} -c "{leave}" & sleep 0.5'], start_new_session=True).wait()
print(orphans.end(), helper.poll(), known.poll(), orphans.end())
helper.kill(), known.kill()
"""


def test_what_left_the_group_of_a_child_is_killed_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", ADOPTS], cwd=TREE, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "None", "None", "0"], done
