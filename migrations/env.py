"""How Alembic reaches the database: by the URL it is given, else by the settings."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from app.config import Settings
from app.db import Database
from app.tables import Base

database = Database(context.config.attributes.get("database_url") or Settings().database_url)
with database.engine.begin() as connection:
    if connection.dialect.name == "postgresql":  # one migration at a time; a long one, or the wait, may take its time
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('stillhouse migrations'))"))
    # batch mode: SQLite cannot alter a table in place
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
database.dispose()
