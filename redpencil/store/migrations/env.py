"""Alembic's entry: migrate on the connection that redpencil.store.migrate hands over."""

from alembic import context

from redpencil.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
