"""What a service stands on in a test: ``embedded`` needs no server, ``fleet`` has real ones, as production has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers import postgres, redis
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.servers.seaweedfs import SeaweedFS

BACKENDS = ("embedded", "fleet")
DATABASE = "stillhouse"
"""Of ``OwnServers``."""


@contextmanager
def backend(name: str) -> Iterator[dict[str, str]]:
    """The settings (``STILLHOUSE_*``) of an empty, migrated backend of its own."""
    if name == "embedded":
        yield {}
        return
    database = postgres.fresh()
    try:
        yield {"STILLHOUSE_DATABASE_URL": database, "STILLHOUSE_BROKER_URL": redis.fresh()}
    finally:
        postgres.drop(database)


@dataclass(frozen=True)
class OwnServers:
    """Servers that a test may strike, because nobody else uses them."""

    postgres: Postgres
    redis: Redis
    broker: Proxy
    """Before Redis."""

    @property
    def settings(self) -> dict[str, str]:
        """Of a service that stands on them."""
        broker = f"redis://127.0.0.1:{self.broker.port}/0"
        return {"STILLHOUSE_DATABASE_URL": self.postgres.url(DATABASE), "STILLHOUSE_BROKER_URL": broker}


@contextmanager
def own_servers() -> Iterator[OwnServers]:
    """Started, with an empty database that outlives a crash; gone afterwards."""
    database, broker = Postgres(durable=True), Redis()
    database.start()
    broker.start()
    wire = Proxy(broker.port)
    try:
        with database.connect() as session:
            session.execute(f"CREATE DATABASE {DATABASE}")
        yield OwnServers(database, broker, wire)
    finally:
        wire.close()
        broker.stop()
        database.stop()


@dataclass(frozen=True)
class OwnStore:
    """A store that a test may strike."""

    store: SeaweedFS
    line: Proxy
    """Before it; clients who download go past."""

    def settings(self, prefix: str) -> dict[str, str]:
        """Of a service that keeps its files below ``prefix`` there, and is not patient."""
        return {
            **self.store.settings(prefix, endpoint=self.line.url),
            "STILLHOUSE_STORAGE_PUBLIC_ENDPOINT": self.store.endpoint,
            "STILLHOUSE_STORAGE_PATIENCE_SECONDS": "0.5",
        }


@contextmanager
def own_store() -> Iterator[OwnStore]:
    """Started; gone afterwards."""
    store = SeaweedFS()
    store.start()
    line = Proxy(store.port)
    try:
        yield OwnStore(store, line)
    finally:
        line.close()
        store.kill()
