"""Old processes live on while a migration is made: each revision only adds, and what it adds may be left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from app.db import Database
from app.migrate import _config, upgrade

REVISIONS = [script.revision for script in ScriptDirectory.from_config(_config("")).walk_revisions()][::-1]
SINCE = "0002"
"""Before it there was no installation that could be upgraded while it runs."""
STEPS = [(old, new) for old, new in pairwise(REVISIONS) if old >= SINCE]
VALUES: dict[type[Any], Any] = {str: "x", int: 1, float: 1.0, bool: True, dict: {}, object: {}}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'x.db'}")
    yield opened
    opened.dispose()


def tables(database: Database) -> dict[str, sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(database.engine)
    return {name: table for name, table in metadata.tables.items() if name != "alembic_version"}


def value(column: sa.Column[Any]) -> Any:
    """Some value of the column's kind."""
    if isinstance(column.type, sa.DateTime):
        return sa.func.current_timestamp()
    return VALUES[column.type.python_type]


@pytest.mark.parametrize(("old", "new"), STEPS)
def test_what_an_old_process_writes_and_reads_is_taken_after_the_upgrade(
    database: Database, old: str, new: str
) -> None:
    url = database.engine.url.render_as_string()
    upgrade(url, old)
    before = tables(database)
    upgrade(url, new)
    after = tables(database)
    assert set(before) <= set(after), "a table is dropped one release after the last code that reads it"
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")  # the rows are never committed
        for name, table in before.items():
            columns = {column.name for column in table.columns}
            assert columns <= {column.name for column in after[name].columns}, name
            required = [column for column in table.columns if not column.nullable and column.server_default is None]
            connection.execute(sa.insert(table).values({column.name: value(column) for column in required}))
            connection.execute(sa.select(table)).all()


def test_a_column_that_old_code_cannot_fill_would_be_found(database: Database) -> None:
    url = database.engine.url.render_as_string()
    upgrade(url)
    old = tables(database)["projects"]
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE stricter AS SELECT * FROM projects")
        connection.exec_driver_sql("DROP TABLE projects")
        connection.exec_driver_sql(
            "CREATE TABLE projects (id TEXT PRIMARY KEY, name TEXT, created_at TIMESTAMP, owner TEXT NOT NULL)"
        )
        with pytest.raises(sa.exc.IntegrityError, match=r"projects\.owner"):
            connection.execute(sa.insert(old).values(id="p", name="n", created_at=sa.func.current_timestamp()))
