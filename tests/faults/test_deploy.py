"""A deploy under load: every API and worker is stopped and started again, one at a time, with a migration between."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import Database
from app.tables import Job
from stillhouse import Client
from tests.faults.deploys import ahead
from tests.faults.disturbance import SHORT, Reference, undisturbed
from tests.fleet import Fleet, end, fleet
from tests.harness import eventually
from tests.servers.backends import backend
from tests.servers.proxy import Proxy

CLIENTS = 2


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Fleet]:
    """Two APIs and two workers on PostgreSQL and Redis."""
    with backend("fleet") as urls, fleet(tmp_path, **urls) as started:
        for _ in range(2):
            started.api()
            started.worker()
        yield started


@pytest.fixture
def balancer(running: Fleet) -> Iterator[Proxy]:
    """Before both APIs, as a fleet has one."""
    ports = [port for api in running.apis if (port := api.http.base_url.port) is not None]
    between = Proxy(*ports)
    yield between
    between.close()


class Load:
    """Submits a job and follows its events to the end, then the next one, until it is told to stop."""

    def __init__(self, url: str, key: str, over: threading.Event) -> None:
        self.url, self.key, self.over = url, key, over
        self.jobs: list[str] = []

    def run(self) -> None:
        with Client(self.url, self.key) as client:
            while not self.over.is_set():
                job_id = client.submit(SHORT).id
                self.jobs.append(job_id)
                seen = [event.seq for event in client.follow(job_id)]
                assert seen == list(range(1, len(seen) + 1))
                assert client.get(job_id).status == "succeeded"


def trains(running: Fleet, worker: subprocess.Popen[bytes]) -> bool:
    """Whether a child of this worker has stored a checkpoint, and trains on."""
    api = running.apis[0]
    for job in api.get("/v1/jobs", status="running")["data"]:
        newest = api.get(f"/v1/jobs/{job['id']}/attempts")["data"][-1]
        if newest["worker"].endswith(f"-{worker.pid}") and api.get(f"/v1/jobs/{job['id']}/checkpoints")["data"]:
            return bool(job["stage"] in ("training", "control"))
    return False


def replace(running: Fleet, worker: subprocess.Popen[bytes]) -> None:
    """End a worker in the middle of a training, and start another one."""
    eventually(lambda: trains(running, worker), what="the worker to train")
    end(worker)
    assert worker.returncode == 0
    running.worker()


@pytest.mark.slow
def test_a_rolling_restart_with_a_migration_fails_no_request_and_costs_no_job(running: Fleet, balancer: Proxy) -> None:
    expected: Reference = undisturbed(running.apis[0], SHORT)
    over = threading.Event()
    clients = [Load(balancer.url, running.key, over) for _ in range(CLIENTS)]
    database = Database(running.settings["STILLHOUSE_DATABASE_URL"])
    old = list(running.workers)
    with ThreadPoolExecutor(CLIENTS) as pool:
        follow = [pool.submit(client.run) for client in clients]
        try:
            running.restart(running.apis[0])
            replace(running, old[0])
            with ahead(running.settings["STILLHOUSE_DATABASE_URL"]):
                running.restart(running.apis[1])
                replace(running, old[1])
                over.set()
                for each in follow:
                    each.result()  # what a client could not get by its retries is raised here
        finally:
            over.set()
    jobs = [job_id for client in clients for job_id in client.jobs]
    for job_id in jobs:
        assert expected.differences(running.apis[0], job_id, scratch=running.data_dir / "scratch") == []
    with database.reading() as session:
        assert set(session.scalars(select(Job.losses))) == {0}
    database.dispose()
    attempts = [row for job_id in jobs for row in running.apis[0].get(f"/v1/jobs/{job_id}/attempts")["data"]]
    assert {row["reason"] for row in attempts if row["reason"] is not None} == {"drained"}
