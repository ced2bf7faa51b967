"""For users' own tests and for writers of backends."""
