"""workers, outcomes of attempts, quotas of projects"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("queues", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("name", name=op.f("uq_workers_name")),
    )
    op.create_index(op.f("ix_workers_heartbeat_at"), "workers", ["heartbeat_at"], unique=False)
    op.create_table(
        "attempt_outcomes",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("kind", "reason", name=op.f("pk_attempt_outcomes")),
    )
    op.execute(
        "INSERT INTO attempt_outcomes (kind, reason, attempts) "
        "SELECT jobs.kind, COALESCE(attempts.reason, 'succeeded'), COUNT(*) "
        "FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE attempts.ended_at IS NOT NULL "
        "GROUP BY jobs.kind, COALESCE(attempts.reason, 'succeeded')"
    )
    # null is the installation's own limit; old processes, which know nothing of these, leave them so
    op.add_column("projects", sa.Column("running_limit", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("waiting_limit", sa.Integer(), nullable=True))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_jobs_finished_at", "jobs")
    op.drop_column("projects", "waiting_limit")
    op.drop_column("projects", "running_limit")
    op.drop_table("attempt_outcomes")
    op.drop_table("workers")
