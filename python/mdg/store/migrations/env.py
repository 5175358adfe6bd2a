"""What Alembic runs for each command: our metadata, the caller's connection and transaction."""

from alembic import context

from mdg.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
