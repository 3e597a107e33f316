"""What must hold of a job after any fault: read through the API, from the outside."""

from __future__ import annotations

import hashlib
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.harness import Remote, alive

LEGAL = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "paused"),
    ("running", "queued"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelling"),
    ("running", "pausing"),
    ("cancelling", "cancelled"),
    ("cancelling", "failed"),
    ("pausing", "paused"),
    ("pausing", "queued"),
    ("pausing", "cancelling"),
    ("pausing", "succeeded"),
    ("pausing", "failed"),
    ("paused", "queued"),
    ("paused", "cancelled"),
}


def check(service: Remote, job_id: str, *, scratch: Path | None = None) -> list[str]:
    """A sentence for each broken invariant; none is what one hopes for. ``scratch`` is where workers put attempts."""
    job = service.job(job_id)
    events = service.events(job_id)
    attempts = service.get(f"/v1/jobs/{job_id}/attempts")["data"]
    broken = []
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        broken.append("the events have a gap")
    changes = [event["data"] for event in events if event["type"] == "job.status_changed"]
    broken += [f"illegal move {c['from']} to {c['to']}" for c in changes if (c["from"], c["to"]) not in LEGAL]
    if sum(change["terminal"] for change in changes) != 1 or not changes[-1]["terminal"]:
        broken.append("the job did not end exactly once")
    if [attempt["n"] for attempt in attempts] != list(range(1, len(attempts) + 1)):
        broken.append("the attempts have a gap")
    for before, after in pairwise(attempts):
        if before["ended_at"] is None or before["ended_at"] > after["started_at"]:
            broken.append(f"attempts {before['n']} and {after['n']} overlap")
    broken += [f"child {a['pid']} of attempt {a['n']} is still alive" for a in attempts if a["pid"] and alive(a["pid"])]
    broken += _check_fence(events)
    if scratch is not None:
        broken += [f"{folder} was left" for folder in _left(scratch, job_id)]
    artifacts = service.get(f"/v1/jobs/{job_id}/artifacts")["data"]
    if bool(artifacts) != (job["status"] == "succeeded"):
        broken.append(f"a job that {job['status']} shows {len(artifacts)} artifacts")
    if job["status"] == "succeeded":
        broken += _check_published(service, job_id)
    return broken


def _left(scratch: Path, job_id: str) -> list[Path]:
    """The attempts' folders that are still there a moment after the job has ended."""
    for _ in range(100):
        if not (left := list(scratch.glob(f"*/{job_id}-*"))):
            break
        time.sleep(0.1)
    return left


def _check_fence(events: list[dict[str, Any]]) -> list[str]:
    """An attempt that has ended says nothing more; what a person does to the job afterwards is a change of status."""
    broken, ended = [], -1
    for event in events:
        if event["attempt"] <= ended and event["type"] != "job.status_changed":
            broken.append(f"attempt {event['attempt']} said {event['type']} after it had ended")
        if event["type"] == "job.attempt_ended":
            ended = event["attempt"]
    return broken


def _check_published(service: Remote, job_id: str) -> list[str]:
    broken = []
    manifest = json.loads(service.artifact(job_id, "manifest.json"))
    for entry in manifest["files"]:
        content = service.artifact(job_id, entry["name"])
        if hashlib.sha256(content).hexdigest() != entry["sha256"] or len(content) != entry["bytes"]:
            broken.append(f"{entry['name']} is not what its manifest says")
    metrics = service.get(f"/v1/jobs/{job_id}/metrics", max_points=5000)["data"]
    for name, series in metrics.items():
        if "/epoch/" in name and series["step"] != list(range(1, len(series["step"]) + 1)):
            broken.append(f"metric {name} has a gap or a double: {series['step']}")
    return broken
