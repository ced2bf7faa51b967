"""What every `Backend` must do."""

from collections.abc import AsyncIterator

import pytest

from stepflow.protocols import Backend
from stepflow.testing.suites.blobs import BlobsSuite
from stepflow.testing.suites.journal import JournalSuite
from stepflow.testing.suites.runs import RunsSuite
from stepflow.testing.suites.writes import FIRST, enter


class StoreSuite(JournalSuite, RunsSuite, BlobsSuite):
    """Subclass it and give a `backend` fixture: an empty backend that is not open yet."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def backend(self) -> Backend:
        pytest.fail(f"{type(self).__name__} gives no `backend` fixture: the backend to test, empty and not open yet")

    @pytest.fixture
    async def store(self, backend: Backend) -> AsyncIterator[Backend]:
        async with backend as opened:
            await enter(opened, FIRST.owner)
            yield opened
