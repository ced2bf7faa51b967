"""The document as its author wrote it."""
