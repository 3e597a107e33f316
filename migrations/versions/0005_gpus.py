"""the devices that a job asks for

Rows that a process of before writes say 0: any worker takes them, as it did.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("gpus", sa.Integer(), nullable=False, server_default="0"))
    jobs = sa.table(
        "jobs", sa.column("kind", sa.String()), sa.column("spec", sa.JSON()), sa.column("gpus", sa.Integer())
    )
    asked = jobs.c.spec[("resources", "gpus")].as_integer()
    op.execute(jobs.update().where(jobs.c.kind == "distillation").values(gpus=sa.func.coalesce(asked, 0)))


def downgrade() -> None:
    op.drop_column("jobs", "gpus")
