"""Versions of the hot store's database, and how Alembic runs them."""
