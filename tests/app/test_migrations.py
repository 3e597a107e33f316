"""Tables and migrations say the same."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from app.db import Database
from app.migrate import _config, pending, upgrade
from app.tables import Base


def test_the_migrations_make_the_tables(migrated: Path) -> None:
    database = Database(f"sqlite:///{migrated}")
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        differences = compare_metadata(context, Base.metadata)
    database.dispose()
    assert differences == []


def test_a_database_is_brought_up_and_down(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    assert pending(url)
    upgrade(url)
    upgrade(url)
    assert not pending(url)
    command.downgrade(_config(url), "base")
    database = Database(url)
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.dispose()
