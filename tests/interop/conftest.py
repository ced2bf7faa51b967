"""The environment in which the reference system's own programs run."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from quiet_loop import QuietLoop

_MADE_BY = Path(__file__).parents[2] / "benchmarks/peers/environments.py"


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": QuietLoop}


@pytest.fixture(scope="session")
def upstream_python() -> Path:
    """The interpreter of that environment, which is made now if it is not there."""
    spec = importlib.util.spec_from_file_location("environments", _MADE_BY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Path = module.python("upstream")
    return found
