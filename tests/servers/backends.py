"""What a service stands on in a test: ``embedded`` needs no server, ``fleet`` has real ones, as production has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import postgres, redis

BACKENDS = ("embedded", "fleet")


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
