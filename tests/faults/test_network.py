"""The network between a worker and its database is cut for longer than the lease: a real cable, and real TCP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disturbance import SHORT, undisturbed
from tests.faults.invariants import check
from tests.fleet import Fleet, end, fleet
from tests.harness import alive, eventually
from tests.servers import Missing
from tests.servers.backends import DATABASE
from tests.servers.network import Island, island
from tests.servers.postgres import Postgres

LEASE_SECONDS = 6
BRIEF: dict[str, Any] = {**SHORT, "name": "brief", "training": {**SHORT["training"], "epochs": 1}}


@dataclass
class Ground:
    """A fleet here, and a place for a worker that reaches nothing but the database."""

    fleet: Fleet
    island: Island
    far_url: str
    """Of the database, as seen from there."""


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with ExitStack() as ends:
        try:
            there = ends.enter_context(island())
        except Missing as missing:
            pytest.skip(str(missing))
        database = Postgres(durable=True, also=there.here)
        database.start()
        ends.callback(database.stop)
        with database.connect() as session:
            session.execute(f"CREATE DATABASE {DATABASE}")
        settings = {
            "STILLHOUSE_DATABASE_URL": database.url(DATABASE),
            "STILLHOUSE_LEASE_SECONDS": str(LEASE_SECONDS),
            "STILLHOUSE_CHECKPOINT_SECONDS": "0.5",
        }
        running = ends.enter_context(fleet(tmp_path, **settings))
        running.api()
        yield Ground(running, there, database.url(DATABASE, host=there.here))


@pytest.mark.slow
def test_a_worker_whose_network_is_cut_stops_and_comes_back_without_a_trace(ground: Ground) -> None:
    running, api = ground.fleet, ground.fleet.apis[0]
    cut_off = running.worker(wrapper=ground.island.wrapper, STILLHOUSE_DATABASE_URL=ground.far_url)
    expected = undisturbed(api, SHORT)
    job_id = api.submit(SHORT)
    eventually(lambda: api.get(f"/v1/jobs/{job_id}/checkpoints")["data"], what="a checkpoint")
    child = api.child(job_id)
    assert child is not None
    ground.island.cut()
    eventually(lambda: not alive(child), what="the worker to give its attempt up")
    assert api.job(job_id)["attempt"] == 1
    other = running.worker()
    eventually(lambda: api.job(job_id)["attempt"] == 2, what="another worker to take over")
    ground.island.mend()
    api.wait(job_id)
    assert expected.differences(api, job_id, scratch=running.data_dir / "scratch") == []
    assert [row["reason"] for row in api.get(f"/v1/jobs/{job_id}/attempts")["data"]] == ["worker_lost", None]
    end(other)
    after = api.submit(BRIEF)  # nobody but the one that was cut off can take it
    assert api.wait(after)["attempt"] == 1
    assert check(api, after, scratch=running.data_dir / "scratch") == []
    assert cut_off.poll() is None
