"""What every `Backend` must do."""

from collections.abc import AsyncIterator

import pytest

from stepflow.protocols import Backend
from stepflow.testing.suites.blobs import BlobsSuite
from stepflow.testing.suites.dispatch import DispatchSuite, SharedDispatchSuite
from stepflow.testing.suites.inbox import InboxSuite
from stepflow.testing.suites.journal import JournalSuite, SharedJournalSuite
from stepflow.testing.suites.keys import KeysSuite, SharedKeysSuite
from stepflow.testing.suites.owners import OwnersSuite, SharedOwnersSuite
from stepflow.testing.suites.retention import RetentionSuite, SharedRetentionSuite
from stepflow.testing.suites.runs import RunsSuite
from stepflow.testing.suites.signals import SharedSignalsSuite, SignalsSuite
from stepflow.testing.suites.writes import FIRST, Ids, enter


class StoreSuite(
    JournalSuite, RunsSuite, KeysSuite, BlobsSuite, OwnersSuite, InboxSuite, DispatchSuite, SignalsSuite, RetentionSuite
):
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

    @pytest.fixture
    def ids(self) -> Ids:
        return Ids()


class SharedStoreSuite(
    SharedJournalSuite,
    SharedKeysSuite,
    SharedOwnersSuite,
    SharedDispatchSuite,
    SharedSignalsSuite,
    SharedRetentionSuite,
    StoreSuite,
):
    """The same for a store that several engines share. Give `backend`, `let_expire` and, where it can, `another`."""
