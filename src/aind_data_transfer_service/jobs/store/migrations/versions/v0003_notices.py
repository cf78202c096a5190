"""Messages that have not gone out yet."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def _text(name: str) -> sa.Column[str]:
    """Make a column of text that is never null."""
    return sa.Column(name, _TEXT, nullable=False, server_default="")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "notices",
        sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
        sa.Column("job_seq", _BIG, sa.ForeignKey("jobs.seq"), nullable=False),
        _text("before"),
        _text("after"),
        _text("reason"),
        _text("address"),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT, nullable=False),
        sqlite_autoincrement=True,  # a number is never used again
    )
    op.create_index("notices_by_due_at", "notices", ["due_at", "seq"])


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("notices")
