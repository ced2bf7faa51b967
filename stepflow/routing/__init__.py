"""Which plugin answers for a component."""
