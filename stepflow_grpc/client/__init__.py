"""A server's client: flows in, runs begun, results out."""
