"""Which jobs were submitted together."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the column; jobs of former releases were submitted alone, as far as it says."""
    op.add_column("jobs", sa.Column("batch_id", _TEXT, nullable=False, server_default=""))


def downgrade() -> None:
    """Remove the column."""
    with op.batch_alter_table("jobs") as batch:
        batch.drop_column("batch_id")
