"""Migrations from within: ``serve`` brings its own database up to date, everybody else is told to."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.db import Database


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to ``revision``."""
    command.upgrade(_config(database_url), revision)


def pending(database_url: str) -> bool:
    """Whether the database lacks a migration.

    One that is ahead of this code does not: a rolling upgrade migrates first, and a process of the old code that is
    started again meanwhile must start.
    """
    database = Database(database_url)
    try:
        with database.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        database.dispose()
    script = ScriptDirectory.from_config(_config(database_url))
    known = {revision.revision for revision in script.walk_revisions()}
    return current is None or (current in known and current != script.get_current_head())


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parent.parent / "migrations"))
    config.attributes["database_url"] = database_url
    return config
