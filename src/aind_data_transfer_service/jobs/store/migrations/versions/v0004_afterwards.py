"""What became of an asset after its upload."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COLUMNS = (
    "analysis",
    "analysis_reason",
    "data_asset_id",
    "data_asset_link",
    "computation_id",
    "computation_link",
    "registration",
    "registration_reason",
)
_OPEN = sa.text(
    "(analysis IN ('PENDING', 'WAITING', 'RUNNING') OR registration = 'PENDING')",
)


def upgrade() -> None:
    """Make the columns."""
    for name in _COLUMNS:
        op.add_column("jobs", sa.Column(name, _TEXT, nullable=False, server_default=""))
    op.create_index(
        "jobs_open_afterwards", "jobs", ["seq"], sqlite_where=_OPEN, postgresql_where=_OPEN
    )


def downgrade() -> None:
    """Remove the columns."""
    op.drop_index("jobs_open_afterwards", "jobs")
    with op.batch_alter_table("jobs") as batch:
        for name in _COLUMNS:
            batch.drop_column(name)
