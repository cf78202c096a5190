"""Whether the bucket in a job's request is a word of an earlier release.

Before this revision, `private`, `open`, `scratch` and `default` were recorded as they were written,
and meant buckets of these names. Since then they are replaced before a job is recorded.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_WORDS = ("default", "open", "private", "scratch")
_AT_ONCE = 500


def upgrade() -> None:
    """Make the column, and mark the requests that hold a word."""
    op.add_column(
        "job_requests",
        sa.Column("has_bucket_word", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    requests = sa.table(
        "job_requests",
        sa.column("job_seq"),
        sa.column("upload_job_settings"),
        sa.column("has_bucket_word"),
    )
    connection = op.get_bind()
    settings = requests.c.upload_job_settings
    found = connection.execute(
        sa.select(requests.c.job_seq, settings).where(
            sa.or_(*(settings.like(f'%"{word}"%') for word in _WORDS))
        )
    )
    marked = [row.job_seq for row in found if _bucket(row.upload_job_settings) in _WORDS]
    for start in range(0, len(marked), _AT_ONCE):
        some = requests.c.job_seq.in_(marked[start : start + _AT_ONCE])
        connection.execute(sa.update(requests).where(some).values(has_bucket_word=sa.true()))


def downgrade() -> None:
    """Remove the column."""
    with op.batch_alter_table("job_requests") as batch:
        batch.drop_column("has_bucket_word")


def _bucket(text: str) -> object:
    """Return the bucket that a request names; None if it names none or cannot be read."""
    try:
        request = json.loads(text)
    except ValueError:
        return None
    return request.get("s3_bucket") if isinstance(request, dict) else None
