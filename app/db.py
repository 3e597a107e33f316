"""The database: one engine, and the only place where a transaction is committed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

logger = logging.getLogger(__name__)


_POSTGRESQL = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,  # milliseconds until sent bytes that nobody acknowledges end a connection
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "options": "-c statement_timeout=20000 -c idle_in_transaction_session_timeout=20000",
}
"""A heartbeat must fail, not hang, long before its lease runs out; and a process that freezes, or whose network is
cut, in mid-transaction must not keep its job's row locked, since upkeep passes locked rows over."""


class Database:
    """One code base on SQLite and PostgreSQL.

    On SQLite a writing transaction begins with BEGIN IMMEDIATE: with plain BEGIN, six processes claiming
    1,200 jobs met 4,417 "database is locked" errors, and none with it.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(parsed, connect_args={"timeout": 30})
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.engine = create_engine(parsed, pool_pre_ping=True, pool_recycle=1800, connect_args=_POSTGRESQL)
            event.listen(self.engine, "do_executemany", _one_by_one)
            self.engine.dialect.supports_sane_multi_rowcount = False  # the cursor counts the last row's alone
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        self._read = sessionmaker(self.engine.execution_options(reading=True), expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A unit of work: all of it is committed at the end, or none; then what waits on the commit runs."""
        with self._write.begin() as session:
            yield session
        for callback in session.info.pop("on_commit", ()):
            callback()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """No write lock, and nothing written in it is kept. On PostgreSQL each statement sees its own moment."""
        with self._read() as session:
            yield session

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def on_commit(session: Session, callback: Callable[[], None]) -> None:
    """Run ``callback`` after the unit of work has committed; never when it rolls back.

    SQLAlchemy's own after_commit event also fires when a savepoint is released, hence this list.
    """
    session.info.setdefault("on_commit", []).append(callback)


def now(session: Session) -> datetime:
    """The database's clock in UTC: the only clock that leases are measured by."""
    if session.get_bind().dialect.name == "sqlite":
        stamp = session.scalar(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')"))
        return datetime.fromisoformat(str(stamp)).replace(tzinfo=UTC)
    moment = session.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


def unavailable(error: SQLAlchemyError) -> bool:
    """Whether the database did not answer, or gave way to others: the same may well work in a moment."""
    if isinstance(error, PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError)
    )


def full(error: SQLAlchemyError) -> bool:
    """Whether the database has no room left on its disk."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(cause, psycopg.errors.DiskFull)


def storable(text: str) -> str:
    """``text`` as every database takes it: PostgreSQL takes no NUL, and UTF-8 no half of a surrogate pair."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    connection.create_function("lower", 1, _lower, deterministic=True)  # SQLite's own knows ASCII alone
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _one_by_one(cursor: Any, statement: str, rows: Sequence[Any], _context: object) -> bool:
    """Send many rows one by one instead of through psycopg's pipeline.

    After a pipeline PostgreSQL no longer counts the time that a transaction is idle (seen with 15, psycopg 3.3), so a
    process that froze there kept its locks.
    """
    for row in rows:
        cursor.execute(statement, row)
    return True


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
