"""An API that dies between the commit of a job and its message: the job is there once, and it is run."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

from stillhouse import Client
from tests.faults.disturbance import SHORT
from tests.faults.invariants import check
from tests.fleet import fleet
from tests.harness import eventually
from tests.servers import free_port
from tests.servers.proxy import Proxy

TINY: dict[str, Any] = {**SHORT, "name": "tiny", "training": {**SHORT["training"], "epochs": 1}}
DIES = """
import os, signal, sys
import uvicorn
from app.config import Settings
from app.lifeline import die_with_parent
from app.main import create_app
from app.queue import Doorbell, create_celery

class Dying(Doorbell):
    def _ring_soon(self, queue, job_id):
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings()
die_with_parent(int(sys.argv[sys.argv.index("--lifeline") + 1]))
uvicorn.run(create_app(settings, doorbell=Dying(create_celery(settings))), port=int(sys.argv[1]), log_level="warning")
"""


def test_an_api_that_dies_before_it_rings_has_taken_the_job(tmp_path: Path) -> None:
    """Its client, who heard no answer, sends the request again, comes to another API, and gets the same job."""
    with fleet(tmp_path) as running:
        port = free_port()
        dying = running.start(["-c", DIES, str(port)], tmp_path / "dying.log")
        running.worker()
        api = running.api()
        eventually(lambda: listens(port), what="the API that will die")
        assert api.http.base_url.port is not None
        balancer = Proxy(port, api.http.base_url.port)
        with Client(balancer.url, running.key) as client:
            job = client.submit(TINY)
            assert dying.wait(timeout=30) == -signal.SIGKILL
            assert [row.id for row in client.jobs()] == [job.id]
            assert client.wait(job.id).status == "succeeded"
        assert check(api, job.id) == []
        balancer.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
