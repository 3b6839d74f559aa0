"""Runs the migrations on the connection that the journal opened."""

from __future__ import annotations

from alembic import context

from keeper.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
