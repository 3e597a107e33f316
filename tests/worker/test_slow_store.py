"""A store that takes longer over a checkpoint than a lease lasts costs time, and no attempt."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.disturbance import SHORT
from tests.faults.invariants import check
from tests.harness import QUICK, eventually, service
from tests.servers import seaweedfs
from tests.servers.proxy import Proxy

LEASE_SECONDS = float(QUICK["STILLHOUSE_LEASE_SECONDS"])


@pytest.mark.slow
def test_a_lease_outlives_an_upload_that_takes_longer_than_it_lasts(tmp_path: Path) -> None:
    store = seaweedfs.shared()
    line = Proxy(store.port)
    settings = store.settings("slow", endpoint=line.url)
    with service(tmp_path / "data", **settings, STILLHOUSE_STORAGE_PUBLIC_ENDPOINT=store.endpoint) as running:
        job_id = running.submit(SHORT)
        eventually(lambda: running.child(job_id), what="the child to run")
        line.delay = LEASE_SECONDS  # for each piece, and an upload is a request and an answer at least
        began = time.monotonic()
        eventually(lambda: running.get(f"/v1/jobs/{job_id}/checkpoints")["data"], what="a checkpoint")
        slow = time.monotonic() - began
        line.delay = 0.0
        job = running.wait(job_id)
        assert slow > 2 * LEASE_SECONDS
        assert (job["status"], job["attempt"], check(running, job_id)) == ("succeeded", 1, [])
    line.close()
