"""`pools` of a configuration, and the word about secrets."""

from pathlib import Path
from typing import Any

import pytest

from stepflow.config.model import Config, PoolSettings
from stepflow.config.open import open_engine
from stepflow.config.read import load_config
from stepflow.errors import ConfigError, InputInvalidError, Problem

pytestmark = pytest.mark.anyio

BARE: dict[str, Any] = {"plugins": {"builtin": {"type": "builtin"}}, "routes": {}}


def loaded(**sections: Any) -> Config:
    return load_config({**BARE, **sections}, environ={"REPLICAS": "3"})


def problems_of(**sections: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as raised:
        loaded(**sections)
    return raised.value.problems


def test_pools_are_read_by_the_queue_that_they_serve() -> None:
    config = loaded(
        pools={
            "gpu": {"app": "m:app", "replicas": "${REPLICAS}", "maxConcurrent": 1},
            "r": {"command": "Rscript", "args": ["worker.R"], "env": {"R_HOME": "/r"}},
        }
    )

    assert config.warnings == ()
    assert config.pools == (
        PoolSettings(queue="gpu", app="m:app", replicas=3, max_concurrent=1),
        PoolSettings(queue="r", command="Rscript", args=("worker.R",), env={"R_HOME": "/r"}),
    )


def test_no_pools_are_as_good_as_null_ones() -> None:
    assert loaded().pools == loaded(pools=None).pools == loaded(pools={}).pools == ()


@pytest.mark.parametrize(("written", "read"), [(3, 3), ("auto", "auto"), (None, None)])
def test_slots_of_a_pool_are_a_number_or_found_out(written: object, read: object) -> None:
    (pool,) = loaded(pools={"gpu": {"app": "m:app", "maxConcurrent": written}}).pools

    assert pool.max_concurrent == read


@pytest.mark.parametrize(
    ("pools", "path", "words"),
    [
        ([], "$.pools", "has to be an object"),
        ({"gpu": None}, "$.pools.gpu", "has to be an object with the key app or command"),
        ({"gpu": {}}, "$.pools.gpu", "needs either app or command"),
        ({"gpu": {"app": "m:app", "command": "m"}}, "$.pools.gpu", "needs either app or command"),
        ({"gpu": {"app": "m"}}, "$.pools.gpu.app", '"module:registry"'),
        ({"gpu": {"app": "m:app", "replicas": 0}}, "$.pools.gpu.replicas", "at least 1"),
        ({"gpu": {"app": "m:app", "maxConcurrent": "many"}}, "$.pools.gpu.maxConcurrent", "whole number"),
        ({"gpu": {"command": "m", "args": "x"}}, "$.pools.gpu.args", "list of texts"),
        ({"gpu": {"command": "m", "env": {"N": 1}}}, "$.pools.gpu.env.N", "has to be text"),
        ({"": {"app": "m:app"}}, '$.pools[""]', "must not be empty"),
    ],
)
def test_a_pool_that_cannot_work_is_refused_at_its_path(pools: Any, path: str, words: str) -> None:
    (problem,) = problems_of(pools=pools)

    assert problem.path == path
    assert words in problem.message


def test_a_pool_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_text("plugins: {}\nroutes: {}\npools:\n  gpu:\n    app: m:app\n    replicas: none\n")

    with pytest.raises(ConfigError) as raised:
        load_config(file, environ={})

    assert str(raised.value).startswith(f"{file}:6:")


def test_what_a_pool_does_not_know_is_warned_of_with_a_suggestion() -> None:
    config = loaded(pools={"gpu": {"app": "m:app", "replica": 2, "args": ["x"]}})

    assert [(warning.path, warning.remedy) for warning in config.warnings] == [
        ("$.pools.gpu.args", None),
        ("$.pools.gpu.replica", 'did you mean "replicas"?'),
    ]


def test_a_plugin_with_a_command_may_say_how_many_of_it_run() -> None:
    plugin = {"type": "grpc", "queueName": "q", "command": "m", "replicas": 2, "maxConcurrent": 1}

    config = loaded(plugins={"w": plugin})

    assert config.warnings == ()
    assert config.plugins["w"].options["replicas"] == 2
    (problem,) = problems_of(plugins={"w": {**plugin, "replicas": 0}})
    assert problem.path == "$.plugins.w.replicas"


@pytest.mark.parametrize(
    ("written", "meant"),
    [(None, None), ("strict", "refuse"), ("refuse", "refuse"), ("warn", "warn"), ("plain", "plain")],
)
def test_secrets_may_be_refused_warned_of_or_taken(written: str | None, meant: str | None) -> None:
    assert loaded(secrets=written).secrets == meant


def test_another_word_about_secrets_is_refused() -> None:
    (problem,) = problems_of(secrets="none")

    assert problem.path == "$.secrets"
    assert "strict" in problem.message


async def test_an_engine_takes_the_configurations_word_about_secrets(tmp_path: Path) -> None:
    secret = {"type": "string", "is_secret": True}
    flow = {"schemas": {"properties": {"variables": {"properties": {"key": secret}}}}, "steps": [], "output": 1}
    config = {**BARE, "storageConfig": {"type": "sqlite", "databaseUrl": f"sqlite:{tmp_path / 'runs.db'}"}}

    async with open_engine({**config, "secrets": "plain"}) as engine:
        assert await engine.run(flow, {}, variables={"key": "hunter2"}) == 1
    async with open_engine({**config, "secrets": "strict"}) as engine:
        with pytest.raises(InputInvalidError, match="hold secrets"):
            await engine.run(flow, {}, variables={"key": "hunter2"})
