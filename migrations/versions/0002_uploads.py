"""uploads, data sets, models, and jobs of another kind that validate them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PROJECT = "projects.id"


def upgrade() -> None:
    # plain statements, not batch mode: batch mode rebuilds the table, and dropping the old one would cascade
    op.add_column("jobs", sa.Column("kind", sa.String(length=16), nullable=False, server_default="distillation"))
    op.drop_index("ix_jobs_claim", "jobs")
    op.create_index("ix_jobs_claim", "jobs", ["kind", "status", "queue", "priority", "created_at"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("upload_metadata", sa.String(length=4096), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], [PROJECT], name=op.f("fk_uploads_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_project_id"), "uploads", ["project_id"], unique=False)
    op.create_index(op.f("ix_uploads_expires_at"), "uploads", ["expires_at"], unique=False)
    for table in ("datasets", "models"):
        _create_validated(table)


def _create_validated(table: str) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("upload_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("declared", sa.JSON(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("files", sa.JSON(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], [PROJECT], name=op.f(f"fk_{table}_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("upload_id", name=op.f(f"uq_{table}_upload_id")),
    )
    op.create_index(op.f(f"ix_{table}_job_id"), table, ["job_id"], unique=False)
    op.create_index(f"ix_{table}_project_list", table, ["project_id", "id"], unique=False)


def downgrade() -> None:
    for table in ("models", "datasets", "uploads"):
        op.drop_table(table)
    op.execute("DELETE FROM jobs WHERE kind = 'validation'")
    op.drop_index("ix_jobs_claim", "jobs")
    op.drop_column("jobs", "kind")
    op.create_index("ix_jobs_claim", "jobs", ["status", "queue", "priority", "created_at"], unique=False)
