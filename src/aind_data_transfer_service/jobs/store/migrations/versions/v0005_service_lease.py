"""The lease of the process that runs the jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table and its only row, which nobody holds."""
    lease = op.create_table(
        "service_lease",
        sa.Column("id", sa.Integer, primary_key=True),
        *(
            sa.Column(name, _TEXT, nullable=False, server_default="")
            for name in ("holder", "name", "place")
        ),
        sa.Column("fencing", _BIG, nullable=False, server_default="0"),
        sa.Column("since", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("expires", sa.Float(53), nullable=False, server_default="0"),
    )
    op.bulk_insert(lease, [{"id": 1}])


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("service_lease")
