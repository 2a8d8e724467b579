"""The store: tables, transactions and the hot path, on SQLite and PostgreSQL alike."""
