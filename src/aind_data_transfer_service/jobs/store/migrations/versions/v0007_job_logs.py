"""Ends of logs that jobs brought."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "job_logs",
        sa.Column("job_seq", _BIG, sa.ForeignKey("jobs.seq"), primary_key=True),
        sa.Column("stream", _TEXT, primary_key=True),
        sa.Column("position", _BIG, nullable=False, server_default="0"),
        sa.Column("dropped", _BIG, nullable=False, server_default="0"),
        sa.Column("text", _TEXT, nullable=False, server_default=""),
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("job_logs")
