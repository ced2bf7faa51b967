"""The pytest plugin: it loads nothing of the engine until a fixture is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stepflow.testing.async_engine import AsyncScriptedEngine
    from stepflow.testing.engine import ScriptedEngine

pytest.register_assert_rewrite("stepflow.testing.suites")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "stepflow_app",
        "the registries of the application: lines of module:registry, or /prefix=module:registry",
        type="linelist",
    )
    parser.addini("stepflow_config", "a configuration file, relative to the ini file")
    parser.addini(
        "stepflow_flows", "folders of flows whose test cases are collected, relative to the ini file", type="paths"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Where `testpaths` says what to collect, the folders of flows are collected too."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        config.args.extend(str(folder) for folder in config.getini("stepflow_flows"))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not any(file_path.is_relative_to(folder) for folder in parent.config.getini("stepflow_flows")):
        return None
    from stepflow.testing.items import FlowFile

    return FlowFile.from_parent(parent, path=file_path)


@pytest.fixture(scope="session")
def stepflow_components(pytestconfig: pytest.Config) -> object:
    """The registries that flows are tested with: those of the ini option `stepflow_app`.

    Override it to give a `stepflow.Components`, or several by path prefix.
    """
    from stepflow.testing.settings import components_of

    return components_of(pytestconfig)


@pytest.fixture
def stepflow_engine(request: pytest.FixtureRequest, stepflow_components: object) -> "Iterator[ScriptedEngine]":
    """An engine whose components are scripted and whose clock turns by itself; see `ScriptedEngine`."""
    from stepflow.testing.settings import scripted_engine

    with scripted_engine(request, stepflow_components) as engine:
        yield engine


@pytest.fixture
def stepflow_async_engine(stepflow_engine: "ScriptedEngine") -> "AsyncScriptedEngine":
    """The same with methods to await, for async tests."""
    from stepflow.testing.async_engine import AsyncScriptedEngine

    return AsyncScriptedEngine(stepflow_engine)
