"""Alembic's entry: always online, always on the connection that `run.py` hands over."""

from alembic import context

from treadle.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite", transaction_per_migration=False
)
context.run_migrations()
