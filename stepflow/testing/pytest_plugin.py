"""The pytest plugin: it loads nothing of the engine until a fixture is asked for."""

import pytest

pytest.register_assert_rewrite("stepflow.testing")
