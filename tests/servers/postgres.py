"""PostgreSQL for tests: one shared server with a migrated database to copy, or one of a test's own that it may kill."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import signal
import subprocess
import threading
from urllib.parse import urlsplit

import psycopg

from app.migrate import upgrade
from tests.servers import Server, folder, given, require

VARIABLE = "STILLHOUSE_TEST_DATABASE_URL"
_FOLDERS = ("/usr/lib/postgresql/*/bin",)
_MIGRATED = "stillhouse_migrated"
_taken = itertools.count()
_copying = threading.Lock()


class Postgres(Server):
    """A server of its own. ``durable`` keeps fsync on, for tests that kill it; ``also`` is a further address it has."""

    stop_signal = signal.SIGINT
    """A fast shutdown: sessions are ended, transactions rolled back."""

    def __init__(self, *, durable: bool, also: str | None = None) -> None:
        user = _unprivileged()
        super().__init__("postgres", folder("pg", owner=user), user=user)
        self._durable = durable
        self._also = also
        self.user = user or ""
        self._initialise()

    def _initialise(self) -> None:
        arguments = ["--pgdata", str(self.data / "data"), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
        done = subprocess.run(
            [_program("initdb"), *arguments, "--locale=C.UTF-8", "--no-sync"],
            cwd=self.data,
            user=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if self._also is not None:
            with (self.data / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {self._also}/30 trust\n")

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": ",".join(["127.0.0.1", *([self._also] if self._also else [])]),
            "unix_socket_directories": str(self.data),
            "port": str(self.port),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            "autovacuum": "on" if self._durable else "off",
            "timezone": "Pacific/Chatham",  # 45 minutes off the hour: a time that loses its zone shows at once
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [_program("postgres"), "-D", str(self.data / "data"), *options]

    def ready(self) -> bool:
        with self.connect():
            return True

    def url(self, database: str = "postgres", *, host: str = "127.0.0.1") -> str:
        """Of one of its databases."""
        return f"postgresql://postgres@{host}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A session of a superuser, each of whose statements is a transaction."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    def crash(self) -> None:
        """End it as ``pg_ctl -m immediate`` does: no shutdown checkpoint, recovery at the next start."""
        self.signal(signal.SIGQUIT)
        self.wait()

    def terminate_sessions(self, database: str) -> int:
        """Cut every session of a database, also in mid-transaction; how many there were."""
        statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
        with self.connect() as session:
            row = session.execute(statement, (database,)).fetchone()
        assert row is not None
        return int(row[0])


@functools.cache
def shared() -> Postgres:
    """The session's, fast and not durable."""
    server = Postgres(durable=False)
    server.start()
    return server


def fresh() -> str:
    """The URL of a migrated database of its own, a copy of one that is migrated once. ``drop`` it afterwards."""
    with _copying:  # a template must have no session while it is copied
        template = _template()
        name = f"stillhouse_{os.getpid()}_{next(_taken)}"
        _administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return _url(name)


def empty() -> str:
    """The URL of a database without a table. ``drop`` it afterwards."""
    name = f"stillhouse_{os.getpid()}_{next(_taken)}"
    _administer(f'CREATE DATABASE "{name}"')
    return _url(name)


def drop(url: str) -> None:
    """Drop a database of ``fresh`` or ``empty``, whoever is connected."""
    _administer(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')


@functools.cache
def _template() -> str:
    name = f"{_MIGRATED}_{os.getpid()}"
    _administer(f'CREATE DATABASE "{name}"')
    upgrade(_url(name))
    if given(VARIABLE) is not None:
        atexit.register(drop, _url(name))
    return name


def _administer(statement: str) -> None:
    with psycopg.connect(_url("postgres"), autocommit=True, connect_timeout=10) as session:
        session.execute(statement.encode())


def _url(database: str) -> str:
    if (url := given(VARIABLE)) is not None:
        return urlsplit(url)._replace(path=f"/{database}").geturl()
    return shared().url(database)


def _program(name: str) -> str:
    return str(require(name, package="postgresql", variable=VARIABLE, folders=_FOLDERS))


def _unprivileged() -> str | None:
    """Whom root becomes: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    _program("initdb")  # the package makes the user
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
