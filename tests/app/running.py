"""A worker's side of a job, without a worker: for tests of what the API shows."""

from __future__ import annotations

import io

from app.db import Database
from app.ids import new_id
from app.lifecycle.claim import Worker, claim
from app.lifecycle.lease import Lease, held
from app.lifecycle.settle import end, succeed
from app.storage import Storage
from app.tables import Artifact

WORKER = Worker(name="w1", host="host", devices=("cpu",), queues=("default",))
HEADLINE = {"top1": 0.9, "top5": 1.0, "loss": 0.3, "parameters": 10, "flops": 20, "bytes": 30, "latency_ms": 0.1}
RESULT = {"teacher": None, "student": HEADLINE, "control": None, "agreement": None, "verdict": "none"}


def claimed(database: Database, *, lease_seconds: float = 60) -> Lease:
    with database.transaction() as session:
        lease = claim(session, WORKER, lease_seconds=lease_seconds)
    assert lease is not None
    return lease


def ended(database: Database, lease: Lease, reason: str) -> None:
    with database.transaction() as session:
        end(session, held(session, lease), reason=reason, max_losses=3)


def succeeded(database: Database, storage: Storage, lease: Lease, *, content: bytes = b"weights") -> None:
    name = "student.safetensors"
    stored = storage.put(f"jobs/{lease.job_id}/attempts/{lease.attempt}/{name}", io.BytesIO(content))
    with database.transaction() as session:
        artifact = Artifact(
            id=new_id("art"),
            job_id=lease.job_id,
            name=name,
            key=stored.key,
            bytes=stored.bytes,
            sha256=stored.sha256,
            media_type="application/octet-stream",
        )
        succeed(session, held(session, lease), result=RESULT, artifacts=[artifact], max_losses=3)
