"""Pools: workers of a queue that a server starts itself, and looks after."""
