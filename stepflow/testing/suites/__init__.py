"""What every store and every plugin must do, as test classes to subclass.

A store passes by giving one fixture::

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(tmp_path / "runs")

A plugin gives one too, and names calls that succeed and calls that fail; see `PluginSuite`. The tests are async and
run through AnyIO's pytest plugin, on every backend that the `anyio_backend` fixture names.
"""

from stepflow.testing.suites.plugin import PluginSuite
from stepflow.testing.suites.store import StoreSuite

__all__ = ["PluginSuite", "StoreSuite"]
