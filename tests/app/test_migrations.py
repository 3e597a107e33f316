"""Tables and migrations say the same, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from app.db import Database
from app.migrate import _config, pending, upgrade
from app.tables import Base
from tests.harness import TREE
from tests.servers import postgres
from tests.servers.backends import BACKENDS


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database without a table."""
    if request.param == "embedded":
        yield f"sqlite:///{tmp_path / 'x.db'}"
        return
    made = postgres.empty()
    yield made
    postgres.drop(made)


def test_the_migrations_make_the_tables(url: str) -> None:
    upgrade(url)
    database = Database(url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        differences = compare_metadata(context, Base.metadata)
    database.dispose()
    assert differences == []


def test_a_database_is_brought_up_and_down(url: str) -> None:
    assert pending(url)
    upgrade(url)
    upgrade(url)
    assert not pending(url)
    command.downgrade(_config(url), "base")
    database = Database(url)
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.dispose()


def test_jobs_of_before_ask_for_the_devices_that_their_spec_names(url: str) -> None:
    command.upgrade(_config(url), "0004")
    database = Database(url)
    with database.transaction() as session:
        session.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', CURRENT_TIMESTAMP)"))
        for kind, spec in (("distillation", '{"resources": {"gpus": 2}}'), ("validation", "{}")):
            values = f"'{kind}', 'p', '{kind}', 'n', '{spec}', 'q', 0, 'queued', '{{}}', 0, 0, 0, 0, 0.0"
            columns = "id, project_id, kind, name, spec, queue, priority, status, progress, attempt, losses, last_seq"
            columns += ", log_bytes, run_seconds, created_at"
            session.execute(text(f"INSERT INTO jobs ({columns}) VALUES ({values}, CURRENT_TIMESTAMP)"))
    upgrade(url)
    with database.reading() as session:
        rows = session.execute(text("SELECT id, gpus FROM jobs ORDER BY id")).all()
    database.dispose()
    assert [tuple(row) for row in rows] == [("distillation", 2), ("validation", 0)]


def test_processes_that_migrate_at_the_same_moment_wait_for_each_other(url: str) -> None:
    environment = {**os.environ, "STILLHOUSE_DATABASE_URL": url}
    command_line = [sys.executable, "-m", "app", "migrate"]
    together = [
        subprocess.Popen(command_line, cwd=TREE, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in together] == [("", 0)] * 3
    assert not pending(url)


def test_a_process_of_the_old_code_starts_on_a_database_that_is_ahead(url: str) -> None:
    upgrade(url)
    database = Database(url)
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    database.dispose()
    assert not pending(url)
