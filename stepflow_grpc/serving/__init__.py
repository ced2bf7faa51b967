"""`stepflow serve`, and the server's own program."""
