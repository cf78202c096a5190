"""The node on which a job runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("node", _TEXT, nullable=False, server_default=""))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("jobs", "node")
