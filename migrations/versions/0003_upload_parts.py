"""the parts of uploads, which lie in the storage now; files that data sets or models of a project share"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ASSETS = ("datasets", "models")


def upgrade() -> None:
    for table in ASSETS:
        op.add_column(table, sa.Column("content_of", sa.String(length=40), nullable=True))
        op.create_index(op.f(f"ix_{table}_content_of"), table, ["content_of"], unique=False)
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(length=40), nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_id", "offset", name=op.f("pk_upload_parts")),
    )
    # what waits for its validation lies in one file, whose sha256 nobody took; what is still on its way begins again
    op.execute(
        'INSERT INTO upload_parts (upload_id, "offset", key, bytes) '
        "SELECT id, 0, 'uploads/' || id || '/content', length FROM uploads WHERE expires_at IS NULL"
    )
    op.execute('UPDATE uploads SET "offset" = 0 WHERE expires_at IS NOT NULL')


def downgrade() -> None:
    for table in ASSETS:
        op.drop_index(op.f(f"ix_{table}_content_of"), table)
        op.drop_column(table, "content_of")
    op.execute('UPDATE uploads SET "offset" = 0 WHERE expires_at IS NOT NULL')
    op.drop_table("upload_parts")
