"""What a run did, and why it stands still: read from a store, with or without an engine."""
