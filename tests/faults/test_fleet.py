"""Two APIs and two workers on one PostgreSQL and one Redis, and what may happen to servers, network and workers."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from app.config import Settings
from app.queue import Doorbell, create_celery
from tests.faults.disturbance import SHORT, Reference, undisturbed
from tests.faults.invariants import check
from tests.fleet import Fleet, fleet
from tests.harness import Remote, alive, eventually
from tests.servers import require
from tests.servers.backends import DATABASE, own_servers
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

TINY: dict[str, Any] = {**SHORT, "name": "tiny", "training": {**SHORT["training"], "epochs": 2}}
LEASE_SECONDS = 6.0


@dataclass
class Ground:
    """What the fleet stands on: servers of its own, the broker behind a proxy."""

    postgres: Postgres
    redis: Redis
    broker: Proxy
    fleet: Fleet
    expected: Reference

    @property
    def api(self) -> Remote:
        """The first one."""
        return self.fleet.apis[0]

    def training(self, queue: str = "default") -> str:
        """A job that has stored a checkpoint and trains on."""
        job_id = self.api.submit({**SHORT, "resources": {"queue": queue}})
        eventually(lambda: self.api.get(f"/v1/jobs/{job_id}/checkpoints")["data"], what="a checkpoint")
        return job_id

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """Of a job."""
        return list(self.api.get(f"/v1/jobs/{job_id}/attempts")["data"])

    def worker_of(self, job_id: str) -> subprocess.Popen[bytes]:
        """The process that runs a job's newest attempt."""
        pid = int(self.attempts(job_id)[-1]["worker"].rpartition("-")[2])
        return next(worker for worker in self.fleet.workers if worker.pid == pid)

    def differences(self, job_id: str) -> list[str]:
        """What is wrong with a job once it has ended."""
        self.api.wait(job_id)
        return self.expected.differences(self.api, job_id, scratch=self.fleet.data_dir / "scratch")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    pace = {"STILLHOUSE_LEASE_SECONDS": str(LEASE_SECONDS), "STILLHOUSE_CHECKPOINT_SECONDS": "0.5"}
    with own_servers() as own, fleet(tmp_path_factory.mktemp("fleet"), **own.settings, **pace) as running:
        for _ in range(2):
            running.api()
            running.worker()
        yield Ground(own.postgres, own.redis, own.broker, running, undisturbed(running.apis[0], SHORT))


def test_jobs_spread_over_the_workers_and_any_api_answers(ground: Ground) -> None:
    apis = itertools.cycle(ground.fleet.apis)
    jobs = [next(apis).submit(TINY) for _ in range(4)]
    assert [line for line in streamed(ground.fleet.apis[1], jobs[0]) if '"terminal":true' in line]
    for job_id, api in zip(jobs, apis, strict=False):
        assert api.wait(job_id)["status"] == "succeeded"
        assert check(api, job_id) == []
    ran = [attempt["worker"] for job_id in jobs for attempt in ground.attempts(job_id)]
    assert len(ran) == len(jobs)
    assert len(set(ran)) == 2


def streamed(api: Remote, job_id: str) -> list[str]:
    """The data of a job's event stream, to its end."""
    headers = {"Accept": "text/event-stream"}
    with api.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=120) as stream:
        return [line for line in stream.iter_lines() if line.startswith("data:")]


@pytest.mark.slow
def test_messages_that_come_late_and_five_times_over_change_nothing(ground: Ground) -> None:
    settings = Settings(data_dir=ground.fleet.data_dir, broker_url=ground.redis.url())
    ground.broker.delay = 0.7  # longer than a free worker waits until it looks for itself
    bell = Doorbell(create_celery(settings))
    jobs = [ground.api.submit(TINY) for _ in range(2)]
    for job_id in jobs * 5:
        bell.ring("default", job_id)
    ground.broker.delay = 0.0
    for job_id in jobs:
        assert ground.api.wait(job_id)["attempt"] == 1
        assert check(ground.api, job_id) == []


def test_jobs_are_taken_and_run_while_redis_is_down(ground: Ground) -> None:
    held = ground.training()
    with ground.redis.client() as inside:
        inside.flushall()
    ground.redis.kill()
    try:
        job_id = ground.api.submit(TINY)
        assert ground.api.wait(job_id)["attempt"] == 1
        assert ground.differences(held) == []
    finally:
        ground.redis.start()
    after = ground.api.submit(TINY)
    assert ground.api.wait(after)["attempt"] == 1


@pytest.mark.slow
def test_no_client_waits_for_a_broker_that_is_half_open(ground: Ground) -> None:
    ground.broker.mode = "half-open"
    try:
        began = time.monotonic()
        jobs = [ground.api.submit(TINY) for _ in range(2)]
        assert time.monotonic() - began < 5  # the broker's own time-out would be five seconds for each
        for job_id in jobs:
            assert ground.api.wait(job_id)["attempt"] == 1
    finally:
        ground.broker.mode = "open"


def test_a_job_outlives_crashes_of_postgres_without_a_new_attempt(ground: Ground) -> None:
    job_id = ground.training()
    longest = 0.0
    for _ in range(2):
        began = time.monotonic()
        ground.postgres.crash()
        refused = ground.api.http.post("/v1/jobs", json=TINY)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        time.sleep(0.5)
        ground.postgres.start()
        longest = max(longest, time.monotonic() - began)
        time.sleep(1)
    assert ground.differences(job_id) == []
    if longest < LEASE_SECONDS / 2:  # on a very busy machine the recovery alone may outlast the lease
        assert len(ground.attempts(job_id)) == 1


@pytest.mark.slow
def test_sessions_that_are_terminated_in_mid_transaction_cost_nothing(ground: Ground) -> None:
    job_id = ground.training()
    cut = 0
    while cut < 100 and not ground.api.job(job_id)["terminal"]:
        cut += ground.postgres.terminate_sessions(DATABASE)
        time.sleep(0.2)
    assert cut
    assert ground.differences(job_id) == []
    assert len(ground.attempts(job_id)) == 1


def test_a_job_goes_on_after_postgres_was_down_for_longer_than_the_lease(ground: Ground) -> None:
    job_id = ground.training()
    child = ground.api.child(job_id)
    assert child is not None
    ground.postgres.stop()
    eventually(lambda: not alive(child), what="the worker to give its attempt up")
    time.sleep(LEASE_SECONDS / 3 + 1)
    ground.postgres.start()
    assert ground.differences(job_id) == []
    assert [attempt["reason"] for attempt in ground.attempts(job_id)] == ["worker_lost", None]


def test_a_frozen_worker_that_wakes_up_writes_nothing_more(ground: Ground) -> None:
    job_id = ground.training()
    frozen = ground.worker_of(job_id)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        eventually(lambda: ground.api.job(job_id)["attempt"] == 2, what="the other worker to take over")
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert ground.differences(job_id) == []
    assert [attempt["reason"] for attempt in ground.attempts(job_id)] == ["worker_lost", None]


def test_a_worker_that_is_cut_off_from_the_database_stops_before_another_one_begins(ground: Ground) -> None:
    wire = Proxy(ground.postgres.port)
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/{DATABASE}"
    cut_off = ground.fleet.worker(STILLHOUSE_DATABASE_URL=url, STILLHOUSE_QUEUES="cut")
    job_id = ground.training("cut")
    child = ground.api.child(job_id)
    assert child is not None
    wire.mode = "half-open"
    eventually(lambda: not alive(child), what="the worker to give its attempt up")
    assert ground.api.job(job_id)["attempt"] == 1
    ground.fleet.worker(STILLHOUSE_QUEUES="cut")
    eventually(lambda: ground.api.job(job_id)["attempt"] == 2, what="another worker to take over")
    wire.mode = "open"
    assert ground.differences(job_id) == []
    assert cut_off.poll() is None
    wire.close()


@pytest.mark.slow
def test_clocks_that_are_hours_off_steal_no_lease(ground: Ground) -> None:
    program = str(require("faketime", package="faketime", variable="PATH"))
    wrapper = [program, "-f", "+2h"]
    steady = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    ground.fleet.api(wrapper=wrapper, **steady)  # its upkeep looks for leases that have run out
    ground.fleet.worker(wrapper=wrapper, STILLHOUSE_QUEUES="skewed", **steady)
    jobs = [ground.training("skewed"), ground.training()]
    for job_id in jobs:
        assert ground.differences(job_id) == []
        assert len(ground.attempts(job_id)) == 1
