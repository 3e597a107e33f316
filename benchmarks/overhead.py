"""``python -m benchmarks.overhead``: what the service costs beside the training it wraps.

The same spec runs in turn through ``stillhouse serve`` and as a library in one bare process, several times in one go,
since the speed of a shared machine drifts by more than what is measured. The medians of the wall times are compared,
and the way from the submission to the first training step is split into its parts.
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
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.harness import TREE, Service, service

SPEC: dict[str, Any] = {
    "name": "overhead",
    "dataset": {"id": "digits"},
    "teacher": {"architecture": "resnet20"},
    "student": {"architecture": "resnet8"},
    "training": {"batch_size": 64, "optimizer": {"name": "adam"}},
}
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
    parser.add_argument(
        "--epochs", type=int, default=120, help="of each phase; 120 make about two minutes on two cores"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": options.epochs}}
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "data", **PRODUCTION) as running:
        job_id = running.submit({**spec, "training": {**spec["training"], "epochs": 1}})
        running.wait(job_id)  # stages the data set and warms the page cache for both sides
        dataset, stored = running.data_dir / "datasets" / "digits", running.job(job_id)["spec"]
        rounds = []
        for _ in range(options.rounds):
            wall, parts = _through_the_service(running, spec)
            training, start_up = _as_a_library(dataset, stored, options.epochs)
            rounds.append((wall - start_up, training))
            print(f"service {wall:.1f} s, of it start-up {start_up:.1f} s; library {training:.1f} s", file=sys.stderr)
    console = Console(width=100)
    table = Table(title="submit to first training step")
    table.add_column("part")
    table.add_column("seconds", justify="right")
    for name, seconds in parts.items():
        table.add_row(name, f"{seconds:.2f}")
    console.print(table)
    through, bare = (median(times) for times in zip(*rounds, strict=True))
    print(f"median of {options.rounds}, start-up taken off: through the service {through:.1f} s, library {bare:.1f} s")
    each = ", ".join(f"{service / library:.3f}" for service, library in rounds)
    print(f"ratio {through / bare:.3f} (by round {each}); {platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    return 0


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
        "child started to data loaded (interpreter, torch, data set)": at["stage teacher"] - at["job.child_started"],
        "data loaded to first progress (networks, canaries, first steps)": at["job.progress"] - at["stage teacher"],
    }
    return finished - at["job.created"], parts


def _as_a_library(dataset: Path, spec: dict[str, Any], epochs: int) -> tuple[float, float]:
    """Wall seconds of the training alone in a bare process, and of its interpreter and imports."""
    spec = {**spec, "training": {**spec["training"], "epochs": epochs}}
    spec["teacher"] = {**spec["teacher"], "train": {**spec["teacher"]["train"], "epochs": epochs}}
    began = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.library_run", str(dataset), json.dumps(spec)],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.monotonic() - began
    training = float(child.stdout.strip().splitlines()[-1])
    return training, wall - training


if __name__ == "__main__":
    sys.exit(main())
