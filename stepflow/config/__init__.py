"""From a file to an engine."""
