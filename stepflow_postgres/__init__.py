"""The shared, durable store: runs in PostgreSQL, owned by one of several engines at a time."""
