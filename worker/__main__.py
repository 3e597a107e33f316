"""``python -m worker``: one Celery worker on threads. It claims and supervises; torch runs in its children."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import warnings
from dataclasses import replace

from celery.platforms import SecurityWarning

from app import logs, tracing
from app.config import Settings
from app.db import Database
from app.failing import CannotStart, mendable
from app.lifecycle.claim import Worker
from app.lifeline import die_with_parent
from app.migrate import pending
from app.queue import create_celery
from app.storage import open_storage
from worker import orphans, scratch
from worker.fitness import installed
from worker.registration import Registration
from worker.supervisor import Supervisor
from worker.tasks import Slots, look_out, register, validate_uploads


def main() -> None:
    """Start the worker and stay until it is asked to stop; a running job is checkpointed and given back."""
    parser = argparse.ArgumentParser(prog="stillhouse worker", description=__doc__)
    parser.add_argument("--lifeline", type=int, help="descriptor of the pipe that ends with the parent")
    options = parser.parse_args()
    if options.lifeline is not None:
        die_with_parent(options.lifeline)
    settings = Settings()
    logs.configure("worker", form=settings.log_format, level=logging.INFO)
    tracing.configure("worker")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if pending(settings.database_url):
        raise CannotStart("the database is not migrated; run: stillhouse migrate")
    host = socket.gethostname()
    name = settings.worker_name or f"{host}-{os.getpid()}"
    worker = Worker(
        name=name,
        host=host,
        devices=_devices(settings.devices),
        queues=settings.queue_names,
        running_limit=settings.project_running_limit,
    )
    held = scratch.own(settings.data_dir, name)
    orphans.adopt()
    database = Database(settings.database_url)
    storage = open_storage(settings.storage_url, patience_seconds=settings.storage_patience_seconds)
    supervisor = Supervisor(settings, database, storage, worker)
    validator = Supervisor(settings, database, storage, replace(worker, kind="validation"))
    celery = create_celery(settings)
    slots = Slots(1)
    register(celery, supervisor, slots, validator=validator)
    registration = Registration(settings, database, worker, fitness=supervisor.fitness, draining=supervisor.draining)
    looking = (look_out(supervisor, slots), validate_uploads(validator))
    # celery warns of root because of pickle, which is off here; what needs no root runs in confined children
    warnings.filterwarnings("ignore", category=SecurityWarning)
    try:
        celery.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=threads",
                "--concurrency=1",
                f"--queues={','.join(settings.queue_names)}",
                f"--hostname={name}@{host}",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                "--loglevel=WARNING",
            ]
        )
    finally:
        for each in (supervisor, validator):
            each.draining.set()
        for thread in looking:
            thread.join()  # it gives its job back, as the task does
        registration.close()
        held.close()


def _devices(setting: str) -> tuple[str, ...]:
    """The GPUs this worker may use, by the driver's own list; the CPU where there is none, or the setting says so."""
    if setting != "auto":
        kind, _, count = setting.partition(":")
        return tuple(f"{kind}:{index}" for index in range(int(count))) if count else (kind,)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = tuple(f"cuda:{part}" for part in visible.split(",") if part)
        return named or ("cpu",)
    return installed() or ("cpu",)


if __name__ == "__main__":
    os.umask(0o077)  # scratch folders hold users' files
    with mendable():
        main()
