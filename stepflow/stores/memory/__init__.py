"""Runs kept in this process. Everything a durable store does, but for outliving the process."""

from stepflow.stores.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
