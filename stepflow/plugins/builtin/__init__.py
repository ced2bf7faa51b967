"""The components that come with the engine, one file each."""
