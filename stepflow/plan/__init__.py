"""The document made ready to run."""
