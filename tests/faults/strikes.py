"""What may happen to a service and its servers, besides kills: by name, for the benchmark that prints the table."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.queue import Doorbell, create_celery
from tests.faults.disturbance import KILLS, Strike
from tests.harness import QUICK, Service, eventually
from tests.servers.backends import BACKENDS, DATABASE, own_servers
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

_LEASE_SECONDS = float(QUICK["STILLHOUSE_LEASE_SECONDS"])


@dataclass
class Stand:
    """A service, and what can strike it."""

    service: Service
    strikes: dict[str, Strike]


def frozen(service: Service, job_id: str) -> bool:
    """The worker stops for longer than its lease, then wakes up."""
    worker, attempt = service.pids().get("worker"), service.job(job_id)["attempt"]
    if worker is None or service.child(job_id) is None:
        return False
    os.kill(worker, signal.SIGSTOP)
    try:
        eventually(lambda: _lost(service, job_id, attempt), what="the lease to run out")
    finally:
        os.kill(worker, signal.SIGCONT)
    return True


def _lost(service: Service, job_id: str, attempt: int) -> bool:
    job = service.job(job_id)
    return bool(job["status"] == "queued" or job["attempt"] > attempt or job["terminal"])


def repeated(service: Service, job_id: str) -> bool:
    """The job's message comes five times more."""
    broker = service.settings.get("STILLHOUSE_BROKER_URL", "")
    bell = Doorbell(create_celery(Settings(data_dir=service.data_dir, broker_url=broker)))
    for _ in range(5):
        bell.ring("default", job_id)
    return True


@contextmanager
def stand(backend: str, folder: Path) -> Iterator[Stand]:
    """A running service on ``backend``, its servers its own."""
    assert backend in BACKENDS
    common = {**KILLS, "worker frozen": frozen, "message five times": repeated}
    if backend == "embedded":
        with _running(Service(folder / "data")) as service:
            yield Stand(service, common)
        return
    with own_servers() as own, _running(Service(folder / "data", **own.settings)) as service:
        yield Stand(service, {**common, **_of_redis(own.redis, own.broker), **_of_postgres(own.postgres)})


def _of_redis(redis: Redis, wire: Proxy) -> dict[str, Strike]:
    def flushed(_service: Service, _job_id: str) -> bool:
        with redis.client() as inside:
            inside.flushall()
        return True

    def killed(_service: Service, _job_id: str) -> bool:
        redis.kill()
        time.sleep(1)
        redis.start()
        return True

    def half_open(_service: Service, _job_id: str) -> bool:
        wire.mode = "half-open"
        time.sleep(2)
        wire.mode = "open"
        return True

    return {"redis flushed": flushed, "redis killed": killed, "redis half open": half_open}


def _of_postgres(postgres: Postgres) -> dict[str, Strike]:
    def crashed(_service: Service, _job_id: str) -> bool:
        postgres.crash()
        postgres.start()
        return True

    def terminated(_service: Service, _job_id: str) -> bool:
        return postgres.terminate_sessions(DATABASE) > 0

    def away(_service: Service, _job_id: str) -> bool:
        postgres.stop()
        time.sleep(_LEASE_SECONDS + 1)
        postgres.start()
        return True

    return {"postgres crashed": crashed, "postgres sessions cut": terminated, "postgres away past lease": away}


@contextmanager
def _running(service: Service) -> Iterator[Service]:
    try:
        service.start()
        yield service
    finally:
        service.stop()
        service.http.close()
