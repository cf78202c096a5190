"""Run by Alembic: applies migrations over the connection that the store brings along."""

from alembic import context

from aind_data_transfer_service.jobs.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
