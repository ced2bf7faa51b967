"""`stepflow runs`: what became of runs, and what is to become of them."""
