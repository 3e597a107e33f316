"""What may happen to a service and its servers, besides kills: by name, for the benchmark that prints the table."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.config import Settings
from app.queue import Doorbell, create_celery
from tests.faults.deploys import ahead
from tests.faults.disturbance import KILLS, Strike
from tests.harness import QUICK, Service, eventually
from tests.servers.backends import BACKENDS, DATABASE, OwnStore, own_servers, own_store
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

_LEASE_SECONDS = float(QUICK["STILLHOUSE_LEASE_SECONDS"])
_OUTAGE_SECONDS = 4.0


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


def restarted(service: Service, job_id: str) -> bool:
    """A deploy: API and worker are asked to end and started again, on a database that is migrated meanwhile."""
    if service.child(job_id) is None:
        return False
    with ahead(service.database_url):
        for part in ("api", "worker"):
            old = eventually(partial(_pid, service, part), what=f"a running {part}")
            os.kill(old, signal.SIGTERM)
            eventually(partial(_pid, service, part, old), what=f"another {part}")
    return True


def _pid(service: Service, part: str, other_than: int = 0) -> int:
    """Of a part of the service, once there is one; else 0."""
    found = service.pids().get(part, other_than)
    return 0 if found == other_than else found


@contextmanager
def stand(backend: str, folder: Path) -> Iterator[Stand]:
    """A running service on ``backend``, its servers its own."""
    assert backend in BACKENDS
    common = {**KILLS, "worker frozen": frozen, "rolling restart": restarted, "message five times": repeated}
    if backend == "embedded":
        with _running(Service(folder / "data")) as service:
            yield Stand(service, common)
        return
    with own_servers() as own, own_store() as files:
        line = Proxy(own.postgres.port)
        settings = {
            **own.settings,
            **files.settings("chaos"),
            "STILLHOUSE_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{line.port}/{DATABASE}",
        }
        with _running(Service(folder / "data", **settings)) as service:
            servers = {**_of_redis(own.redis, own.broker), **_of_postgres(own.postgres, line), **_of_store(files)}
            yield Stand(service, {**common, **servers})
        line.close()


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

    def away(_service: Service, _job_id: str) -> bool:
        redis.stop()
        time.sleep(_OUTAGE_SECONDS)
        redis.start()
        return True

    def late(service: Service, job_id: str) -> bool:
        wire.delay = 1.0
        repeated(service, job_id)
        time.sleep(2)
        wire.delay = 0.0
        return True

    return {
        "redis flushed": flushed,
        "redis killed": killed,
        "redis away": away,
        "redis half open": _half_open(wire, seconds=2),
        "messages late": late,
    }


def _half_open(wire: Proxy, *, seconds: float) -> Strike:
    """Connections stay, and no byte comes through."""

    def strike(_service: Service, _job_id: str) -> bool:
        wire.mode = "half-open"
        time.sleep(seconds)
        wire.mode = "open"
        return True

    return strike


def _of_postgres(postgres: Postgres, line: Proxy) -> dict[str, Strike]:
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

    return {
        "postgres crashed": crashed,
        "postgres sessions cut": terminated,
        "postgres away past lease": away,
        "postgres half open past lease": _half_open(line, seconds=_LEASE_SECONDS + 1),
    }


def _of_store(files: OwnStore) -> dict[str, Strike]:
    def killed(_service: Service, _job_id: str) -> bool:
        files.store.kill()
        time.sleep(2)
        files.store.start()
        return True

    def slow(_service: Service, _job_id: str) -> bool:
        files.line.delay = 0.05
        time.sleep(3)
        files.line.delay = 0.0
        return True

    def cut(service: Service, job_id: str) -> bool:
        """Once, in the middle of what is uploaded next."""
        files.line.room = 8000
        eventually(lambda: _spent(files.line) or service.job(job_id)["terminal"], what="something to be uploaded")
        struck = _spent(files.line)
        files.line.room = None
        return struck

    return {
        "store killed": killed,
        "store slow": slow,
        "store cut in mid-upload": cut,
        "store half open": _half_open(files.line, seconds=3),
    }


def _spent(line: Proxy) -> bool:
    return line.room is not None and line.room < 0


@contextmanager
def _running(service: Service) -> Iterator[Service]:
    try:
        service.start()
        yield service
    finally:
        service.stop()
        service.http.close()
