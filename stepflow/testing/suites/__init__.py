"""What every store and every plugin must do, as test classes to subclass.

A store for one engine passes by giving one fixture::

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(tmp_path / "runs")

One that several engines share gives two more::

    class TestMySharedStore(SharedStoreSuite):
        @pytest.fixture
        def backend(self, server):
            return MyBackend(server.url)

        @pytest.fixture
        def another(self, server):
            return MyBackend(server.url)

        async def let_expire(self, store, owner):
            await store.execute("UPDATE engines SET expires_at = now() WHERE owner = ?", owner)

`backend` and `another` are not open yet and lead to the same empty store; `another` may be left out where the
engines of one process share one backend. `let_expire` makes the time to live of one engine run out without waiting
for it. The tests take the fixtures `store` (`backend`, open and entered by `engine-1`), `other` (`another`, open) and
`ids`; a subclass may override those too.

A store of blobs alone passes `BlobsSuite`, and gives the fixture `store`, opened.

A plugin gives a fixture and names calls that succeed and calls that fail; see `PluginSuite`. The tests are async and
run through AnyIO's pytest plugin, on every backend that the `anyio_backend` fixture names.
"""

from stepflow.testing.suites.blobs import BlobsSuite
from stepflow.testing.suites.plugin import PluginSuite
from stepflow.testing.suites.store import SharedStoreSuite, StoreSuite

__all__ = ["BlobsSuite", "PluginSuite", "SharedStoreSuite", "StoreSuite"]
