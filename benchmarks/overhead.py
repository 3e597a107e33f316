"""``python -m benchmarks.overhead``: what the service costs beside the training it wraps.

The same spec runs at the same time through ``stillhouse serve`` on one core, worker, API and all, and as a library in
one bare process on another; then they change places. Run one after the other, the speed of a shared machine drifts by
more than what is measured (by a third, on two cores of a cloud machine). What a side takes until its data are loaded
is taken off: the interpreter and the import of torch. The way from the submission to the first
training step is split into its parts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.harness import TREE, Service
from worker.sandbox import ALLOCATOR

SPEC: dict[str, Any] = {
    "name": "overhead",
    "dataset": {"id": "digits"},
    "teacher": {"architecture": "resnet20"},
    "student": {"architecture": "resnet8"},
    "training": {"batch_size": 64, "optimizer": {"name": "adam"}},
}
START_UP = "child started to data loaded (interpreter, torch, data set)"
PRODUCTION = {
    "STILLHOUSE_HEARTBEAT_SECONDS": "10",
    "STILLHOUSE_LEASE_SECONDS": "60",
    "STILLHOUSE_POLL_SECONDS": "2",
    "STILLHOUSE_UPKEEP_SECONDS": "2",
    "STILLHOUSE_CHECKPOINT_SECONDS": "30",
}


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--epochs", type=int, default=120, help="of each of the three phases")
    parser.add_argument("--rounds", type=int, default=4, help="an even number, so that both sides have both cores")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        parser.error("this needs two cores")
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": options.epochs}}
    rounds: list[tuple[float, float]] = []
    parts: dict[str, float] = {}
    for number in range(options.rounds):
        ours, theirs = cores if number % 2 == 0 else reversed(cores)
        wall, training, parts = _side_by_side(spec, ours, theirs)
        start_up = parts[START_UP]
        rounds.append((wall - start_up, training))
        print(f"service {wall:.1f} s, of it start-up {start_up:.1f} s; library {training:.1f} s", file=sys.stderr)
    console = Console(width=100)
    table = Table(title="submit to first training step")
    table.add_column("part")
    table.add_column("seconds", justify="right")
    for name, seconds in parts.items():
        table.add_row(name, f"{seconds:.2f}")
    console.print(table)
    through, bare = (sum(times) for times in zip(*rounds, strict=True))
    each = ", ".join(f"{service / library:.3f}" for service, library in rounds)
    print(f"{options.rounds} rounds, start-ups taken off: through the service {through:.1f} s, library {bare:.1f} s")
    print(f"ratio {through / bare:.3f} (by round {each}); {platform.machine()}, one core each")
    return 0


def _side_by_side(spec: dict[str, Any], ours: int, theirs: int) -> tuple[float, float, dict[str, float]]:
    """Seconds of the job, of the library once its data are loaded; and the parts of the way to the first step."""
    with tempfile.TemporaryDirectory() as folder:
        with _bound_to(ours):
            running = Service(Path(folder) / "data", **PRODUCTION)
            running.start()
        try:
            job_id = running.submit({**spec, "training": {**spec["training"], "epochs": 1}})
            running.wait(job_id)  # stages the data set and warms the page cache for both sides
            stored = running.job(job_id)["spec"]
            with _bound_to(theirs):
                library = _start_the_library(running.data_dir / "datasets" / "digits", stored, spec)
            wall, parts = _through_the_service(running, spec)
            answer, _ = library.communicate()
            assert library.returncode == 0
            training = float(answer.splitlines()[-1])
        finally:
            running.stop()
    return wall, training, parts


@contextmanager
def _bound_to(core: int) -> Iterator[None]:
    """What is started within stays on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _through_the_service(running: Service, spec: dict[str, Any]) -> tuple[float, dict[str, float]]:
    job_id = running.submit(spec)
    while not running.job(job_id)["terminal"]:
        time.sleep(3)  # as a patient client; asking ten times a second, as the tests do, takes its share of two cores
    job = running.job(job_id)
    assert job["status"] == "succeeded", job
    at: dict[str, float] = {}
    for event in running.events(job_id):
        name = event["type"]
        if name == "job.stage_changed":
            name = f"stage {event['data']['stage']}"
        at.setdefault(name, datetime.fromisoformat(event["created_at"]).timestamp())
    finished = datetime.fromisoformat(job["finished_at"]).timestamp()
    parts = {
        "stored to claimed (doorbell)": at["job.attempt_started"] - at["job.created"],
        "claimed to child started (staging)": at["job.child_started"] - at["job.attempt_started"],
        START_UP: at["stage teacher"] - at["job.child_started"],
        "data loaded to first progress (networks, canaries, first steps)": at["job.progress"] - at["stage teacher"],
    }
    return finished - at["job.created"], parts


def _start_the_library(dataset: Path, stored: dict[str, Any], spec: dict[str, Any]) -> subprocess.Popen[str]:
    """The training alone in a bare process, of the stored spec with the epochs of ``spec``."""
    epochs = spec["training"]["epochs"]
    stored = {**stored, "training": {**stored["training"], "epochs": epochs}}
    stored["teacher"] = {**stored["teacher"], "train": {**stored["teacher"]["train"], "epochs": epochs}}
    command = [sys.executable, "-m", "benchmarks.library_run", str(dataset), json.dumps(stored)]
    return subprocess.Popen(command, cwd=TREE, env={**os.environ, **ALLOCATOR}, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    sys.exit(main())
