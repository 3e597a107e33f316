"""Making a finished attempt's files public: the files first, the manifest last, then one fenced transaction."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.db import Database
from app.ids import new_id
from app.lifecycle.lease import Lease, held
from app.lifecycle.settle import succeed
from app.storage import Storage, Stored
from app.tables import Artifact
from worker.engine import failpoint
from worker.handover import Handover, Untrustworthy
from worker.patience import insist

MANIFEST = "manifest.json"
MEDIA_TYPES = {
    ".safetensors": "application/octet-stream",
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".yaml": "application/yaml",
}


def publish(
    database: Database,
    storage: Storage,
    lease: Lease,
    *,
    bundle: Handover,
    result: Mapping[str, Any],
    max_losses: int,
    lost: Callable[[], bool],
) -> None:
    """Store every file of ``bundle``, then its manifest, then end the job as succeeded.

    An attempt that has lost its lease can leave files behind; it cannot publish. Raises LeaseLost, StorageError,
    Untrustworthy.
    """
    prefix = f"jobs/{lease.job_id}/attempts/{lease.attempt}"
    stored: list[tuple[str, Stored]] = []
    for name in bundle.names():
        if name == MANIFEST or Path(name).suffix not in MEDIA_TYPES:
            raise Untrustworthy(f"the child's bundle holds a file {name}")
        with bundle.open(name) as file:
            stored.append((name, storage.put(f"{prefix}/{name}", file, media_type=MEDIA_TYPES[Path(name).suffix])))
        failpoint.reach("publish.upload")
    failpoint.reach("publish.manifest")
    manifest = json.dumps({"files": [_entry(name, copy) for name, copy in stored]}, indent=2) + "\n"
    written = storage.put(f"{prefix}/{MANIFEST}", io.BytesIO(manifest.encode()), media_type=MEDIA_TYPES[".json"])
    stored.append((MANIFEST, written))

    def write() -> None:
        with database.transaction() as session:
            job = held(session, lease)
            artifacts = [
                Artifact(id=new_id("art"), job_id=job.id, key=copy.key, **_entry(name, copy)) for name, copy in stored
            ]
            succeed(session, job, result=result, artifacts=artifacts, max_losses=max_losses)
            session.flush()
            failpoint.reach("publish.commit")

    insist(write, lost=lost)
    failpoint.reach("publish.committed")


def _entry(name: str, copy: Stored) -> dict[str, Any]:
    return {"name": name, "bytes": copy.bytes, "sha256": copy.sha256, "media_type": MEDIA_TYPES[Path(name).suffix]}
