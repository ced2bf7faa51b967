"""The builtins are a plugin like any other."""

import pytest

from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode
from stepflow.testing.suites.plugin import PluginSuite


class TestBuiltinPlugin(PluginSuite):
    succeeds = (
        ("/noop", {"a": [1, None]}, {"a": [1, None]}),
        ("/noop", None, None),
    )
    fails = (
        ("/sleep", {}, ErrorCode.INVALID_INPUT),
        ("/get_blob", {"blob_id": "0" * 64}, ErrorCode.RESOURCE_UNAVAILABLE),
        ("/load_file", {"path": "/etc/hostname"}, ErrorCode.INVALID_INPUT),
    )
    waits = ("/sleep", {"duration_ms": 3_600_000})

    @pytest.fixture
    def plugin(self) -> BuiltinPlugin:
        return BuiltinPlugin()
