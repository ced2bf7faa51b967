"""`stepflow queues`, and `stepflow runs` at a server."""
