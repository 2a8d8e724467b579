"""Alembic's entry: runs migrations on the connection it is handed, for both databases."""

from __future__ import annotations

from alembic import context

from core.store.metadata import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
