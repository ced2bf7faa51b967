import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import stepflow_grpc.plugin
from stepflow.components import Components
from stepflow.config import open_engine, plugin_types
from stepflow.config.open import missing_plugins
from stepflow.config.read import load_config
from stepflow.errors import ConfigError, RunFailedError
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, ErrorCode, Json, Outcome, Succeeded, Task

SEED = Path(__file__).parents[2] / "data" / "seed-config.yml"

APP = """
import stepflow

app = stepflow.Components()


@app.component("/embed")
def embed(input: dict) -> dict:
    return {"size": len(input["text"])}


@app.component("/read")
async def read(input: dict) -> dict:
    return {"text": input["name"] * 2}


@app.component("/sum")
def sum_up(input: dict) -> dict:
    return {"total": sum(input["sizes"])}
"""

FLOW: dict[str, Json] = {
    "name": "three pools",
    "steps": [
        {"id": "read", "component": "/data/read", "input": {"name": {"$input": "name"}}},
        {"id": "embed", "component": "/ml/embed", "input": {"$step": "read"}},
        {
            "id": "sum",
            "component": "/python/sum",
            "input": {"sizes": [{"$step": "embed", "path": "size"}, 1]},
        },
    ],
    "output": {"$step": "sum", "path": "total"},
}


def _flow(*components: str) -> dict[str, Json]:
    return {
        "name": "f",
        "steps": [{"id": f"s{n}", "component": path, "input": {"x": 1}} for n, path in enumerate(components)],
        "output": [{"$step": f"s{n}"} for n in range(len(components))],
    }


@pytest.fixture
def app_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pools_app.py").write_text(APP)
    yield tmp_path
    sys.modules.pop("pools_app", None)


async def _failure(config: Any, flow: dict[str, Json]) -> RunFailedError:
    async with open_engine(config, environ={}) as engine:
        with pytest.raises(RunFailedError) as raised:
            await engine.run(flow)
    return raised.value


@pytest.mark.anyio
async def test_one_flow_gives_equal_results_through_mounts_and_through_the_production_configuration(
    app_directory: Path,
) -> None:
    config = app_directory / "config.yml"
    config.write_text(
        SEED.read_text().replace("type: grpc\n    queueName: default", 'type: python\n    app: "pools_app:app"')
    )
    inputs: list[Json] = [{"name": "a" * size} for size in range(5)]
    namespace: dict[str, Any] = {}
    exec(APP, namespace)
    mounts = dict.fromkeys(("/ml", "/data", "/python"), namespace["app"])

    async with open_engine(config) as configured, open_engine(None, components=mounts) as mounted:
        through_config = [result async for result in configured.run_batch(FLOW, inputs)]
        through_mounts = [result async for result in mounted.run_batch(FLOW, inputs)]

    assert [result.output for result in through_config] == [1, 3, 5, 7, 9]
    assert through_config == through_mounts


@pytest.mark.anyio
async def test_only_a_step_that_is_routed_to_workers_fails_where_nothing_serves_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stepflow_grpc.plugin, "ATTACHED_WITHIN_S", 0.01)

    async with open_engine(SEED) as engine:
        assert await engine.run(_flow("/noop")) == [{"x": 1}]
        with pytest.raises(RunFailedError) as raised:
            await engine.run(_flow("/noop", "/ml/embed"))

    assert raised.value.code == ErrorCode.UNREACHABLE
    assert raised.value.step == "s1"
    assert raised.value.message == (
        "plugin 'workers': nobody gives out the tasks of queue 'gpu'; run the flow by `stepflow serve`"
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ({"type": "mcp", "command": "x"}, "no plugin of type mcp is installed; pip install 'stepflow-engine[mcp]'"),
        ({"type": "nats", "url": "nats://h", "consumer": "c"}, "no plugin of type nats is installed"),
        ({"type": "python", "app": "nowhere_at_all:app"}, 'there is no module "nowhere_at_all" for the registry'),
    ],
)
@pytest.mark.parametrize("key", ["/a", "/a/{*component}"])
async def test_a_plugin_that_cannot_be_made_says_what_is_missing(
    plugin: dict[str, Json], message: str, key: str
) -> None:
    failed = await _failure({"plugins": {"p": plugin}, "routes": {key: [{"plugin": "p"}]}}, _flow("/a/f"))

    assert failed.code == ErrorCode.UNREACHABLE
    assert f'plugin "p": {message}' in failed.message


def test_plugins_that_are_not_installed_are_named_on_request() -> None:
    config = load_config({"plugins": {"tools": {"type": "mcp", "command": "x"}}, "routes": {}}, environ={})

    (warning,) = missing_plugins(config)

    assert (warning.path, warning.level) == ("$.plugins.tools.type", "warning")
    assert "stepflow-engine[mcp]" in warning.message


@pytest.mark.anyio
async def test_without_a_configuration_the_builtins_answer_beside_the_components() -> None:
    app = Components()

    @app.component("/twice")
    def twice(input: dict[str, int]) -> int:
        return input["x"] * 2

    async with open_engine(components=app, environ={}) as engine:
        assert await engine.run(_flow("/twice", "/builtin/noop")) == [2, {"x": 1}]


def test_a_registry_at_a_configured_route_is_refused_naming_both() -> None:
    config: dict[str, Json] = {"plugins": {"b": {"type": "builtin"}}, "routes": {"/ml": [{"plugin": "b"}]}}

    with pytest.raises(ConfigError, match='"/ml" of the configuration and "/ml" of a mounted registry'):
        open_engine(config, components={"/ml": Components()}, environ={})


@pytest.mark.anyio
@pytest.mark.parametrize(
    "allowance",
    ["workingDirectory: inner\nplugins: {b: {type: builtin}}", "plugins: {b: {type: builtin, loadRoots: [inner]}}"],
)
async def test_files_are_loaded_only_from_below_what_the_configuration_names(tmp_path: Path, allowance: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "data.json").write_text('{"n": 1}')
    (tmp_path / "config.yml").write_text(f"{allowance}\nroutes: {{'/b': [{{plugin: b}}]}}\n")

    async with open_engine(tmp_path / "config.yml") as engine:
        assert await engine.run(_loading(), str(tmp_path / "inner" / "data.json")) == {"n": 1}
        with pytest.raises(RunFailedError, match="INVALID_INPUT"):
            await engine.run(_loading(), str(tmp_path / "config.yml"))


@pytest.mark.anyio
async def test_the_directory_that_a_configuration_stands_in_is_not_given_away(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("plugins: {b: {type: builtin}}\nroutes: {'/b': [{plugin: b}]}\n")

    async with open_engine(tmp_path / "config.yml") as engine:
        with pytest.raises(RunFailedError, match="INVALID_INPUT"):
            await engine.run(_loading(), "config.yml")


def _loading() -> dict[str, Json]:
    return {
        "name": "f",
        "steps": [{"id": "load", "component": "/b/load_file", "input": {"path": {"$input": ""}}}],
        "output": {"$step": "load", "path": "data"},
    }


@pytest.mark.anyio
async def test_options_of_the_caller_win_over_the_configuration(tmp_path: Path) -> None:
    config: dict[str, Json] = {
        "plugins": {"b": {"type": "builtin"}},
        "routes": {"/": [{"plugin": "b"}]},
        "storageConfig": {"type": "sqlite", "databaseUrl": "sqlite:nowhere.db"},
    }

    async with open_engine(config, environ={}, store=None) as engine:
        assert await engine.run(_flow("/noop")) == [{"x": 1}]


@pytest.mark.anyio
async def test_a_mock_answers_as_it_is_told() -> None:
    components: dict[str, Json] = {
        "/f": {"behaviors": {'{"x": 1}': {"outcome": "success", "result": "one"}}},
        "/g": None,
    }
    config: dict[str, Json] = {
        "plugins": {"m": {"type": "mock", "components": components}},
        "routes": {"/m": [{"plugin": "m"}]},
    }

    async with open_engine(config, environ={}) as engine:
        assert await engine.run(_flow("/m/f")) == ["one"]
        with pytest.raises(RunFailedError, match="UNREACHABLE"):
            await engine.run(_flow("/m/g"))


class Echo:
    """A plugin of another package."""

    def __init__(self, *, name: str, options: Mapping[str, Json], working_directory: Path) -> None:
        if options.get("broken"):
            raise ValueError("no such thing")
        self.said = {"name": name, **options, "absolute": working_directory.is_absolute()}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return ECHO

    async def wait_components(self, params: Mapping[str, Json]) -> None: ...

    async def perform(self, task: Task, host: Host) -> Outcome:
        return Succeeded(dict(self.said))


ECHO = (ComponentInfo(id="echo"),)


@pytest.fixture
def _echo_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("echo_plugin")
    vars(module)["Echo"] = Echo
    monkeypatch.setitem(sys.modules, "echo_plugin", module)
    points = {
        "echo": EntryPoint("echo", "echo_plugin:Echo", plugin_types.ENTRY_POINTS),
        "grpc": EntryPoint("grpc", "nowhere_at_all:Plugin", plugin_types.ENTRY_POINTS),
    }
    monkeypatch.setattr(
        plugin_types, "entry_points", lambda group: points.values() if group == plugin_types.ENTRY_POINTS else ()
    )


@pytest.mark.anyio
@pytest.mark.usefixtures("_echo_installed")
async def test_installed_packages_add_types() -> None:
    config: dict[str, Json] = {
        "plugins": {"e": {"type": "echo", "volume": 11}},
        "routes": {"/": [{"plugin": "e"}]},
    }

    async with open_engine(config, environ={}) as engine:
        output = await engine.run(_flow("/echo"))

    assert output == [{"name": "e", "volume": 11, "absolute": True}]


@pytest.mark.anyio
@pytest.mark.usefixtures("_echo_installed")
@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ({"type": "echo", "broken": True}, "it can't be made: ValueError: no such thing"),
        ({"type": "grpc", "queueName": "q"}, "pip install 'stepflow-engine[grpc]' (No module named 'nowhere_at_all')"),
    ],
)
async def test_an_installed_type_that_fails_fails_its_steps_only(plugin: dict[str, Json], message: str) -> None:
    failed = await _failure({"plugins": {"e": plugin}, "routes": {"/": [{"plugin": "e"}]}}, _flow("/echo"))

    assert failed.code == ErrorCode.UNREACHABLE
    assert message in failed.message


@pytest.mark.anyio
async def test_blobs_are_put_where_the_configuration_says(tmp_path: Path) -> None:
    storage = {
        "metadata": {"type": "sqlite", "databaseUrl": f"sqlite:{tmp_path / 'runs.db'}"},
        "blobs": {"type": "filesystem", "directory": str(tmp_path / "blobs")},
    }
    bare = {"plugins": {"builtin": {"type": "builtin"}}, "routes": {}, "storageConfig": storage}

    async with open_engine(bare) as engine:
        id = await engine.put_blob(b"content")

    assert (tmp_path / "blobs" / id[:2] / f"{id}.blob").is_file()
