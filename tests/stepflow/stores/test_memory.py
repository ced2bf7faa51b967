"""The memory store is a store like any other."""

import pytest

from stepflow.stores.memory import MemoryBackend
from stepflow.testing.suites.store import StoreSuite


class TestMemoryBackend(StoreSuite):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
