"""What a deploy does: the next release's migration, on a database that processes of this release are working on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from app.migrate import _config
from tests.harness import TREE

_LATER = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "later", {head!r}, None, None


def upgrade():
    op.create_table("later", sa.Column("id", sa.String(length=40), primary_key=True))
    op.add_column("jobs", sa.Column("later", sa.String(length=40), nullable=True))
    op.add_column("attempts", sa.Column("later", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_jobs_later", "jobs", ["later"], unique=False)


def downgrade():
    op.drop_index("ix_jobs_later", "jobs")
    op.drop_column("attempts", "later")
    op.drop_column("jobs", "later")
    op.drop_table("later")
"""
"""It only adds, and what it adds may be left out: the rule that ``tests/app/test_upgrades.py`` holds migrations to."""


@contextmanager
def ahead(database_url: str) -> Iterator[None]:
    """While it lasts, the database has a migration that this code does not know."""
    with tempfile.TemporaryDirectory() as folder:
        migrations = Path(folder) / "migrations"
        shutil.copytree(TREE / "migrations", migrations, ignore=shutil.ignore_patterns("__pycache__"))
        config = _config(database_url)
        config.set_main_option("script_location", str(migrations))
        head = ScriptDirectory.from_config(config).get_current_head()
        (migrations / "versions" / "later.py").write_text(_LATER.format(head=head))
        command.upgrade(config, "later")
        try:
            yield
        finally:
            command.downgrade(config, str(head))
