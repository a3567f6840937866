"""What Alembic runs: the versions, on the connection and in the transaction that `migrate` gives."""

from __future__ import annotations

from alembic import context

from api.store.schema import metadata

# SQLite can undo a change of schema, although Alembic does not rely on it unless told so.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
