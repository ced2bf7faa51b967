"""The mock plugin is a plugin like any other."""

import pytest

from stepflow.plugins.mock import MockPlugin
from stepflow.records import ErrorCode
from stepflow.testing.suites.plugin import PluginSuite


class TestMockPlugin(PluginSuite):
    succeeds = (
        ("/greet", {"name": "Ada"}, {"text": ["hi", "Ada"]}),
        ("/greet", "plain", None),
    )
    fails = (
        ("/greet", {"name": "Bob"}, ErrorCode.INVALID_INPUT),
        ("/greet", "unknown to it", ErrorCode.UNREACHABLE),
    )

    @pytest.fixture
    def plugin(self) -> MockPlugin:
        behaviors = {
            '{"name":"Ada"}': {"outcome": "success", "result": {"text": ["hi", "Ada"]}},
            "plain": {"outcome": "success", "result": None},
            '{"name":"Bob"}': {"outcome": "failed", "error": {"code": "INVALID_INPUT", "message": "not Bob"}},
        }
        return MockPlugin({"/greet": {"behaviors": behaviors}})
