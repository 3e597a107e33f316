"""The doorbell over each broker that a URL may name: what nobody will take is purged, and one that is down is named."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from kombu.exceptions import ChannelError

from app import doctor
from app.chores import purge
from app.config import Settings
from app.db import Database
from app.dependencies import Services
from app.lifecycle import fleet as register
from app.queue import Doorbell, create_celery, sweep_drafts
from tests.app.conftest import submit
from tests.app.test_fleet import WHO, silence
from tests.faults.disturbance import SHORT
from tests.faults.invariants import check
from tests.fleet import fleet
from tests.harness import eventually
from tests.servers import free_port, rabbitmq, redis
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ

TINY: dict[str, Any] = {**SHORT, "name": "tiny", "training": {**SHORT["training"], "epochs": 2}}
URLS: dict[str, Callable[[Path], str]] = {
    "folder": lambda folder: Settings(data_dir=folder).broker_url,
    "redis": lambda _folder: redis.fresh(),
    "rabbitmq": lambda _folder: rabbitmq.fresh(),
}


@pytest.fixture(params=["folder", "redis", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def given(request: pytest.FixtureRequest, client: TestClient, tmp_path: Path) -> Services:
    """The application's services, with a doorbell on a real broker."""
    plain: Services = client.app.state.services  # type: ignore[attr-defined]
    settings = plain.settings.model_copy(update={"broker_url": URLS[request.param](tmp_path)})
    return replace(plain, settings=settings, doorbell=Doorbell(create_celery(settings)))


def waiting(given: Services, queue: str) -> int:
    """Messages in a queue; none where there is no such queue."""
    with create_celery(given.settings).connection_for_write() as connection:
        try:
            return int(connection.default_channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:
            return 0


def test_messages_of_queues_that_nobody_serves_are_purged(
    client: TestClient, database: Database, given: Services
) -> None:
    mark = uuid.uuid4().hex[:8]
    served, unserved, cancelled, unknown = (f"{name}-{mark}" for name in ("served", "unserved", "cancelled", "unknown"))
    jobs = {queue: submit(client, resources={"queue": queue}) for queue in (served, unserved, cancelled, unknown)}
    client.post(f"/v1/jobs/{jobs[cancelled]}/cancel")
    for queue in (served, unserved, cancelled):
        given.doorbell.ring(queue, jobs[queue])
    assert [waiting(given, queue) for queue in jobs] == [1, 1, 1, 0]
    with database.transaction() as session:
        register.report(session, replace(WHO, queues=[served]), state="ready", reason=None, newborn=True)
    assert purge(given) == 2
    assert [waiting(given, queue) for queue in jobs] == [1, 0, 0, 0]
    silence(database, given.settings.lease_seconds + 1)
    assert purge(given) == 1
    assert waiting(given, served) == 0


def test_drafts_that_a_dead_process_left_in_the_folder_are_dropped(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    Doorbell(create_celery(settings)).ring("default", "job_x")
    drafts = settings.data_dir / "broker" / "drafts"
    for name, age in (("1_x.default.msg", 700), ("2_x.default.msg", 0)):
        (drafts / name).write_text("")
        os.utime(drafts / name, (time.time() - age,) * 2)
    assert sweep_drafts(settings, seconds=600) == 1
    assert [path.name for path in drafts.iterdir()] == ["2_x.default.msg"]
    assert len(list((settings.data_dir / "broker" / "messages").iterdir())) == 1
    assert sweep_drafts(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}), seconds=0) == 0


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:{}/0", "amqp://stillhouse:secret@127.0.0.1:{}//"])
def test_a_broker_that_is_down_is_named_and_keeps_nobody(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=url.format(free_port()))
    bell = Doorbell(create_celery(settings))
    complaint = bell.complaint() or ""
    assert "check STILLHOUSE_BROKER_URL" in complaint
    found = doctor._try("broker", lambda: doctor._broker(settings), "check STILLHOUSE_BROKER_URL")
    assert found.state == "error"
    assert bell.purge(["default"]) == 0
    assert "could not purge" in caplog.text
    bell.ring("default", "job_x")
    assert "did not take the message for job_x" in caplog.text
    assert "secret" not in f"{complaint}{found.detail}{caplog.text}"


@pytest.fixture
def broker() -> Iterator[RabbitMQ]:
    """A node that a test may kill."""
    server = RabbitMQ()
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_fleet_over_rabbitmq(broker: RabbitMQ, tmp_path: Path) -> None:
    """Its bell wakes a worker that never looks for itself; killed or half open, jobs are taken and run all the same."""
    wire = Proxy(broker.port)
    with fleet(tmp_path, STILLHOUSE_BROKER_URL=broker.url(wire.port)) as running:
        api = running.api()
        running.worker(STILLHOUSE_POLL_SECONDS="3600")
        running.worker(STILLHOUSE_QUEUES="looked-for")
        eventually(lambda: len(api.get("/v1/workers")["data"]) == 2, what="both workers")
        looked_for = {**TINY, "resources": {"queue": "looked-for"}}
        jobs = [api.submit(TINY)]
        api.wait(jobs[0])
        broker.kill()
        assert "check STILLHOUSE_BROKER_URL" in api.get("/readyz")["parts"]["broker"]
        jobs.append(api.submit(looked_for))
        api.wait(jobs[-1])
        broker.start()
        eventually(lambda: api.get("/readyz")["parts"]["broker"] == "ok", what="the broker to be back")
        jobs.append(api.submit(TINY))
        api.wait(jobs[-1])
        wire.mode = "half-open"
        jobs.append(api.submit(looked_for))
        api.wait(jobs[-1])
        wire.mode = "open"
        for job_id in jobs:
            assert (check(api, job_id), api.job(job_id)["attempt"]) == ([], 1)
    wire.close()
