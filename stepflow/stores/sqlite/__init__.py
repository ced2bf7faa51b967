"""Runs kept in a SQLite file."""
