"""The doorbell: a Celery message that carries nothing but an id, and may be lost, doubled or late without harm."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from time import monotonic_ns, time
from typing import Any
from urllib.parse import unquote, urlsplit

import kombu.transport
from amqp.exceptions import NotFound
from celery import Celery
from kombu.transport import filesystem
from sqlalchemy.orm import Session

from app.config import Settings
from app.db import on_commit

logger = logging.getLogger(__name__)

RUN_NEXT = "stillhouse.run_next"
_LOOK_SECONDS = 3
_REDIS = ("redis", "rediss")
_RABBITMQ = ("amqp", "amqps", "pyamqp")
_MOST_WAITING = 1000
"""Messages that wait for a slow broker; further ones are not sent."""


class AtomicChannel(filesystem.Channel):
    """kombu's folder of messages, with whole messages only.

    kombu writes in place and reads without a lock; a half-written message ends the worker (kombu issue 1551),
    and with it the training it supervises. Here a message appears, and is taken, by one rename.
    """

    def _put(  # type: ignore[override]  # the two classes above it name the argument differently
        self, queue: str, payload: dict[str, Any], **_kwargs: object
    ) -> None:
        name = f"{monotonic_ns()}_{uuid.uuid4()}.{queue}.msg"
        draft = Path(self.processed_folder) / name
        draft.write_text(json.dumps(payload))
        draft.rename(Path(self.data_folder_out) / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(path.name for path in Path(self.data_folder_in).iterdir()):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = Path(self.processed_folder) / name
            try:
                (Path(self.data_folder_in) / name).rename(taken)
            except FileNotFoundError:
                continue  # another reader was faster
            message = json.loads(taken.read_text())
            taken.unlink()
            return message
        raise Empty


class Transport(filesystem.Transport):
    """The filesystem transport over ``AtomicChannel``."""

    Channel = AtomicChannel


kombu.transport.TRANSPORT_ALIASES["stillhouse-filesystem"] = "app.queue:Transport"


def create_celery(settings: Settings) -> Celery:
    """The Celery app. Its settings matter little: jobs are claimed in the database."""
    url = urlsplit(settings.broker_url)
    broker = settings.broker_url
    options: dict[str, object] = {}
    if url.scheme in _REDIS:  # a connection that is half open must be noticed
        options = {"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True}
        options["health_check_interval"] = 25
    if url.scheme in _RABBITMQ:
        options = {"read_timeout": 5, "write_timeout": 5}
    if url.scheme == "filesystem":
        broker, options = "stillhouse-filesystem://localhost", _folders(Path(unquote(url.path)))
    celery = Celery("stillhouse", broker=broker, set_as_current=False)
    celery.conf.update(
        broker_transport_options=options,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,  # acknowledged at the start, so a visibility timeout can never double a running job
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=url.scheme in _REDIS,  # a busy worker reserves no message; known to Redis alone
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_acquire_timeout=5,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.2},
        worker_hijack_root_logger=False,
    )
    return celery


def _folders(root: Path) -> dict[str, object]:
    folders = {name: root / name for name in ("messages", "drafts", "control")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "processed_folder": str(folders["drafts"]),
        "control_folder": str(folders["control"]),
        "polling_interval": 0.1,  # 21 to 30 ms from send to start; the default of 1 s took seven seconds
    }


def sweep_drafts(settings: Settings, *, seconds: float) -> int:
    """Drop what processes that died while they wrote left in the folder broker's drafts; how many there were."""
    url = urlsplit(settings.broker_url)
    if url.scheme != "filesystem":
        return 0
    gone = 0
    for path in (Path(unquote(url.path)) / "drafts").glob("*.msg"):
        try:
            if time() - path.stat().st_mtime > seconds:
                path.unlink()
                gone += 1
        except FileNotFoundError:
            continue  # its writer lives
    return gone


class Doorbell:
    """Wakes a worker. When the broker is down nothing is lost: free workers also look for themselves."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._rings: Queue[tuple[str, str]] = Queue(maxsize=_MOST_WAITING)
        self._ringer = threading.Thread(target=self._ring_for_ever, name="doorbell", daemon=True)
        self._starting = threading.Lock()

    def ring(self, queue: str, job_id: str) -> None:
        """Send one message; a failure is logged, never raised."""
        try:
            self._celery.send_task(RUN_NEXT, args=[job_id], queue=queue)
        except Exception as error:  # noqa: BLE001  # whatever a broker does, the job is stored
            logger.warning("the broker did not take the message for %s: %s", job_id, error)

    def complaint(self) -> str | None:
        """Why the broker takes no message; None when it does."""
        try:
            with self._connected():
                return None
        except Exception as error:  # noqa: BLE001  # whatever a broker does, it is down
            return f"{type(error).__name__}: {error}; check STILLHOUSE_BROKER_URL"

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection of its own, soon or not at all."""
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=_LOOK_SECONDS)
            yield connection

    def purge(self, queues: Iterable[str]) -> int:
        """Drop the messages of queues that nobody serves; how many. A failure is logged, never raised.

        Nothing is lost by it: a worker that comes to serve such a queue looks for its jobs by itself.
        """
        gone = 0
        try:
            for queue in queues:  # a connection each: RabbitMQ closes the channel over a queue that it does not know
                with self._connected() as connection, suppress(NotFound):
                    gone += connection.default_channel.queue_purge(queue) or 0
        except Exception as error:  # noqa: BLE001  # whatever a broker does, its messages are doorbells
            logger.warning("could not purge the messages of queues that nobody serves: %s", error)
        return gone

    def ring_after(self, session: Session, queue: str, job_id: str) -> None:
        """Ring once the unit of work has committed, on a thread of its own: no client waits for a broker that hangs."""
        on_commit(session, lambda: self._ring_soon(queue, job_id))

    def _ring_soon(self, queue: str, job_id: str) -> None:
        with self._starting:
            if not self._ringer.is_alive():
                self._ringer.start()
        try:
            self._rings.put_nowait((queue, job_id))
        except Full:
            logger.warning("the broker is too slow to take the message for %s", job_id)

    def _ring_for_ever(self) -> None:
        while True:
            self.ring(*self._rings.get())
