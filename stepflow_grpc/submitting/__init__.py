"""`stepflow submit`."""
