"""Alembic's entry point: it only ever runs on the connection that `upgrade` hands over."""

from alembic import context

from gateway.migrations import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
