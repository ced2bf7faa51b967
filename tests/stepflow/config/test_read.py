import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stepflow.config.model import Config, StoreSettings
from stepflow.config.open import open_engine
from stepflow.config.read import load_config
from stepflow.errors import ConfigError, Problem
from stepflow.execution.options import RetentionSettings
from stepflow.execution.verdict import BackoffPolicy, RetrySettings

BARE: dict[str, Any] = {"plugins": {"builtin": {"type": "builtin"}}, "routes": {}}
SECRET = "hunter2-is-long"
SQLITE = {"type": "sqlite", "databaseUrl": "sqlite:x"}


def _load(value: Any, environ: Mapping[str, str] | None = None) -> Config:
    return load_config(value, environ=environ or {})


def _with(**sections: Any) -> dict[str, Any]:
    return {**BARE, **sections}


def _problems(value: Any, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as raised:
        _load(value, environ)
    return raised.value.problems


def _paths(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.path for problem in problems]


def test_the_configuration_of_the_production_page_is_read_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = _load(Path(__file__).parents[2] / "data" / "seed-config.yml")

    assert config.warnings == ()
    assert caplog.records == []
    assert {name: settings.type for name, settings in config.plugins.items()} == {
        "builtin": "builtin",
        "workers": "grpc",
    }
    assert config.plugins["workers"].options == {"queueName": "default"}
    assert list(config.routes) == ["/ml/{*component}", "/data/{*component}", "/python/{*component}", "/{*component}"]


def test_without_a_configuration_the_builtins_are_routed() -> None:
    config = _load(None)

    assert config.routes == {"/builtin": [{"plugin": "builtin"}]}
    assert config.plugins["builtin"].type == "builtin"
    assert config.working_directory == Path.cwd()


def test_the_long_example_of_every_section_is_read() -> None:
    config = _load(
        {
            "plugins": {
                "builtin": {"type": "builtin"},
                "math": {"type": "grpc", "queueName": "math", "queueTimeoutSecs": 60, "executionTimeoutSecs": None},
                "local": {
                    "type": "grpc",
                    "queueName": "local",
                    "command": "python",
                    "args": ["-m", "my_worker"],
                    "env": {"LOG_LEVEL": "info"},
                },
            },
            "routes": {
                "/builtin": [{"plugin": "builtin"}],
                "/math": [
                    {
                        "plugin": "math",
                        "conditions": [{"path": "$.size", "value": "large"}],
                        "queueName": "math-large",
                    },
                    {"plugin": "math", "componentDeny": ["debug_dump"]},
                ],
                "/": [{"plugin": "local"}, {"plugin": "builtin"}],
            },
            "storageConfig": {
                "metadata": {"type": "postgres", "databaseUrl": "postgres://u:p@db/stepflow", "maxConnections": 20},
                "blobs": {"type": "filesystem", "directory": "/var/lib/stepflow/blobs"},
            },
            "leaseManager": {"type": "etcd", "endpoints": ["http://etcd:2379"], "key_prefix": "/prod/leases"},
            "recovery": {"checkIntervalSecs": 5, "leaseTtlSecs": 9, "maxClaimsPerCheck": 50, "checkpointInterval": 500},
            "retry": {
                "transportMaxRetries": 5,
                "backoff": {"type": "exponential", "minDelayMs": 200, "maxDelayMs": 8000, "factor": 2},
            },
            "blobApi": {"url": "http://stepflow:7840/api/v1/blobs", "blobThreshold": 262144},
        }
    )

    assert config.storage.url == "postgres://u:p@db/stepflow?pool_size=20&auto_migrate=1"
    assert config.storage.metadata.max_connections == 20
    assert config.storage.blobs == StoreSettings(type="filesystem", directory="/var/lib/stepflow/blobs")
    assert config.recovery.lease_ttl_s == 9
    assert config.retry == RetrySettings(
        transport_max_retries=5,
        backoff=BackoffPolicy(type="exponential", min_delay_ms=200, max_delay_ms=8000, factor=2),
    )
    assert config.storage.blobs_url == "/var/lib/stepflow/blobs"
    assert config.blobs.threshold == 262144
    assert sorted(_paths(config.warnings)) == ["$.blobApi.url", "$.leaseManager"]


def test_null_means_the_default_where_the_reference_takes_it() -> None:
    absent = _load(BARE)
    null = _load(
        _with(
            workingDirectory=None,
            storageConfig=None,
            leaseManager=None,
            recovery=None,
            blobApi=None,
            retry=None,
        )
    )
    inner = _load(
        _with(
            recovery=dict.fromkeys(("enabled", "checkIntervalSecs", "maxStartupRecovery", "leaseTtlSecs")),
            retry={"transportMaxRetries": None, "backoff": None},
        )
    )

    assert null == absent == inner


_WORKERS = ("command", "args", "env", "queueTimeoutSecs", "executionTimeoutSecs")


@pytest.mark.parametrize(
    ("required", "optional"),
    [
        ({"type": "builtin"}, ("loadRoots",)),
        ({"type": "grpc", "queueName": "q"}, (*_WORKERS, "replicas", "maxConcurrent", "maxQueueLength")),
        ({"type": "mcp", "command": "c"}, ("args", "env")),
        ({"type": "mock"}, ("components",)),
        ({"type": "nats", "url": "u", "consumer": "c"}, ("stream", *_WORKERS)),
        ({"type": "python", "app": "m:a"}, ("threads", "processes")),
    ],
)
def test_an_option_of_a_plugin_that_is_null_is_not_given(required: dict[str, Any], optional: tuple[str, ...]) -> None:
    config = _load({"plugins": {"p": required | dict.fromkeys(optional)}, "routes": {"/p": [{"plugin": "p"}]}})

    assert (config.warnings, config.plugins["p"].type) == ((), required["type"])


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"plugins": None}, "$.plugins"),
        ({"routes": None}, "$.routes"),
        ({"storageConfig": {"type": "sqlite", "databaseUrl": None}}, "$.storageConfig.databaseUrl"),
        (
            {"storageConfig": {"type": "sqlite", "databaseUrl": "sqlite:x", "maxConnections": None}},
            "$.storageConfig.maxConnections",
        ),
        (
            {"storageConfig": {"type": "sqlite", "databaseUrl": "sqlite:x", "autoMigrate": None}},
            "$.storageConfig.autoMigrate",
        ),
    ],
)
def test_null_is_refused_where_the_reference_refuses_it(sections: dict[str, Any], path: str) -> None:
    (problem,) = _problems(_with(**sections))

    assert problem.path == path
    assert "must not be null" in problem.message


@pytest.mark.parametrize(
    ("sections", "paths"),
    [
        ({"plugins": []}, ["$.plugins"]),
        ({"plugins": {"a": None, "b": 1, "c": {}}}, ["$.plugins.a", "$.plugins.b", "$.plugins.b", "$.plugins.c"]),
        ({"plugins": {"a": {"type": "stepflow"}}}, ["$.plugins.a.type"]),
        ({"plugins": {"a": {"type": "grpc", "queueTimeoutSecs": 0}}}, ["$.plugins.a", "$.plugins.a.queueTimeoutSecs"]),
        ({"plugins": {"a": {"type": "mcp", "args": "x"}}}, ["$.plugins.a", "$.plugins.a.args"]),
        ({"plugins": {"a": {"type": "mcp", "command": "x", "env": {"P": 1}}}}, ["$.plugins.a.env.P"]),
        ({"plugins": {"a": {"type": "python", "app": "nonsense"}}}, ["$.plugins.a.app"]),
        ({"plugins": {"a": {"type": "mock", "components": []}}}, ["$.plugins.a.components"]),
        ({"plugins": {"a": {"type": "mock", "components": {"/f": 1}}}}, ["$.plugins.a.components./f"]),
        (
            {"plugins": {"a": {"type": "mock", "components": {"/f": {"behaviors": {"x": 1, "y": {"error": "no"}}}}}}},
            ["$.plugins.a.components./f.behaviors"],
        ),
        ({"plugins": {"a": {"type": "nats"}}}, ["$.plugins.a", "$.plugins.a"]),
        ({"routes": {"/a": [{"plugin": "x"}]}}, ['$.routes["/a"][0].plugin']),
        ({"storageConfig": {}}, ["$.storageConfig"]),
        ({"storageConfig": {"type": "mysql"}}, ["$.storageConfig.type"]),
        ({"storageConfig": {"type": "filesystem"}}, ["$.storageConfig.type"]),
        ({"storageConfig": {"type": "sqlite", "databaseUrl": "mysql://"}}, ["$.storageConfig.databaseUrl"]),
        ({"storageConfig": {"metadata": {"type": "filesystem"}}}, ["$.storageConfig.metadata.type"]),
        ({"storageConfig": {"metadata": SQLITE, "blobs": {"type": "filesystem"}}}, ["$.storageConfig.blobs"]),
        ({"storageConfig": {"metadata": SQLITE, "blobs": {"type": "inMemory"}}}, ["$.storageConfig.blobs"]),
        (
            {
                "storageConfig": {
                    "metadata": {"type": "inMemory"},
                    "journal": {"type": "sqlite", "databaseUrl": "sqlite:x"},
                }
            },
            ["$.storageConfig.journal"],
        ),
        ({"leaseManager": {"type": "zookeeper"}}, ["$.leaseManager.type"]),
        ({"leaseManager": {"type": "etcd", "endpoints": []}}, ["$.leaseManager.endpoints"]),
        (
            {"recovery": {"leaseTtlSecs": 2, "checkIntervalSecs": 0}},
            ["$.recovery.checkIntervalSecs", "$.recovery.leaseTtlSecs"],
        ),
        ({"recovery": {"enabled": "yes"}}, ["$.recovery.enabled"]),
        ({"retry": {"transportMaxRetries": -1}}, ["$.retry.transportMaxRetries"]),
        ({"retry": {"transportMaxRetries": True}}, ["$.retry.transportMaxRetries"]),
        ({"retry": {"backoff": {"type": "linear"}}}, ["$.retry.backoff.type"]),
        ({"retry": {"backoff": {"type": "exponential", "factor": 0}}}, ["$.retry.backoff.factor"]),
        ({"retry": {"backoff": {"minDelayMs": "soon"}}}, ["$.retry.backoff.minDelayMs"]),
        ({"blobApi": {"blobThreshold": 1.5}}, ["$.blobApi.blobThreshold"]),
        ({"workingDirectory": 7}, ["$.workingDirectory"]),
    ],
)
def test_what_cannot_work_is_refused_at_its_path(sections: dict[str, Any], paths: list[str]) -> None:
    problems = _problems(_with(**sections))

    assert [problem.path for problem in problems if problem.level == "error"] == paths


@pytest.mark.parametrize("value", [{}, {"plugins": {}}, {"routes": {}}])
def test_plugins_and_routes_have_to_be_there(value: dict[str, Any]) -> None:
    messages = [problem.message for problem in _problems(value)]

    assert messages == [f"{key} is missing" for key in ("plugins", "routes") if key not in value]


def test_an_empty_configuration_of_both_is_enough() -> None:
    assert _load({"plugins": {}, "routes": {}}).plugins == {}


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        ({"type": "fibonacci"}, BackoffPolicy()),
        ({"type": "constant", "delayMs": 5}, BackoffPolicy(type="constant", delay_ms=5)),
        ({"type": "exponential"}, BackoffPolicy(type="exponential")),
        ({"minDelayMs": 10}, BackoffPolicy(min_delay_ms=10)),
    ],
)
def test_each_form_of_backoff_has_its_defaults(backoff: dict[str, Any], expected: BackoffPolicy) -> None:
    assert _load(_with(retry={"backoff": backoff})).retry.backoff == expected


def test_an_unknown_key_is_warned_about_with_a_suggestion(caplog: pytest.LogCaptureFixture) -> None:
    config = _load(_with(retry={"backoff": {"type": "constant", "delay_ms": 5}}, plugin={}))

    assert [(warning.path, warning.remedy) for warning in config.warnings] == [
        ("$.retry.backoff.delay_ms", 'did you mean "delayMs"?'),
        ("$.plugin", 'did you mean "plugins"?'),
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert {record.name for record in caplog.records} == {"stepflow.config"}


def test_an_unknown_type_names_those_there_are() -> None:
    (problem,) = _problems(_with(plugins={"a": {"type": "grcp"}}))

    assert problem.message == 'there is no plugin type "grcp"; there are builtin, python, grpc, mcp, nats, mock'
    assert problem.remedy == 'did you mean "grpc"?'


def test_a_problem_in_a_file_has_file_line_column_and_text(tmp_path: Path) -> None:
    file = tmp_path / "stepflow-config.yml"
    file.write_text("plugins:\n  b: {type: builtin}\nroutes:\n  /a:\n    - plugin: c\n    - plugin: d\n")

    first, second = _problems(file)

    assert (first.source, first.line, first.column, first.text) == (str(file), 5, 15, "    - plugin: c")
    assert str(first).startswith(f"{file}:5:15: error: ")
    assert second.line == 6


def test_a_key_that_is_written_twice_is_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_text("plugins: {}\nroutes: {}\nroutes: {}\n")

    (warning,) = _load(file).warnings

    assert warning.path == "$.routes"
    assert "more than once" in warning.message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yml", "", "has to be an object"),
        ("c.yml", "- a\n", "has to be an object"),
        ("c.yml", "plugins: {", "not YAML"),
        ("c.json", "{", ""),
        ("c.txt", "plugins: {}", "extension"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    problems = _problems(file)

    assert message in problems[0].message
    assert problems[0].source == str(file)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path / "nope.yml")

    assert "no such file" in problem.message


def test_the_working_directory_is_absolute_and_by_default_the_file_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yml").write_text("plugins: {}\nroutes: {}\n")
    (tmp_path / "d.yml").write_text("plugins: {}\nroutes: {}\nworkingDirectory: sub\n")
    monkeypatch.chdir(tmp_path)

    assert _load("c.yml").working_directory == tmp_path
    assert _load("d.yml").working_directory == tmp_path / "sub"
    assert _load(_with(workingDirectory="/srv")).working_directory == Path("/srv")
    assert load_config(None, environ={}, directory=tmp_path / "flows").working_directory == tmp_path / "flows"


def test_every_string_takes_its_variables_from_the_environment() -> None:
    config = _load(
        _with(
            plugins={
                "w": {"type": "grpc", "queueName": "${QUEUE}", "queueTimeoutSecs": "${WAIT:-60}"},
                "m": {"type": "mcp", "command": "$X", "args": ["$X"], "env": {"K": "$X"}},
            },
            routes={"/a": [{"plugin": "w", "params": {"queueName": "${QUEUE}-big"}}]},
            storageConfig={
                "type": "sqlite",
                "databaseUrl": "sqlite:${DB}",
                "maxConnections": "${N}",
                "autoMigrate": "${F}",
            },
        ),
        {"QUEUE": "q", "DB": "runs.db", "N": "3", "F": "False", "X": "x"},
    )

    assert config.plugins["w"].options == {"queueName": "q", "queueTimeoutSecs": 60}
    assert config.plugins["m"].options == {"command": "$X", "args": ["x"], "env": {"K": "x"}}
    assert config.routes == {"/a": [{"plugin": "w", "params": {"queueName": "q-big"}}]}
    assert config.storage.metadata == StoreSettings(
        type="sqlite", database_url="sqlite:runs.db", max_connections=3, auto_migrate=False
    )


def test_a_variable_that_is_not_set_is_a_problem_at_its_path() -> None:
    problems = _problems(_with(plugins={"w": {"type": "grpc", "queueName": "${QUEUE}"}}, workingDirectory="${DIR"))

    assert _paths(problems) == ["$.plugins.w.queueName", "$.workingDirectory"]
    assert problems[0].message == "the environment variable QUEUE is not set and has no default"


@pytest.mark.parametrize(
    ("storage", "place"),
    [
        ({"type": "sqlite", "databaseUrl": "sqlite:x"}, None),
        ({"metadata": SQLITE}, None),
        ({"metadata": SQLITE, "blobs": {**SQLITE, "maxConnections": 3}}, None),
        ({"metadata": SQLITE, "blobs": None}, None),
        ({"metadata": SQLITE, "blobs": {"type": "sqlite", "databaseUrl": "sqlite:y"}}, "sqlite:y"),
        ({"metadata": SQLITE, "blobs": {"type": "filesystem", "directory": "blobs"}}, "blobs"),
        ({"metadata": {"type": "inMemory"}, "blobs": {"type": "filesystem"}}, "file:"),
        ({"metadata": {"type": "inMemory"}, "blobs": {"type": "inMemory"}}, None),
    ],
)
def test_blobs_are_kept_where_it_is_written(storage: dict[str, Any], place: str | None) -> None:
    config = _load(_with(storageConfig=storage))

    assert (config.storage.blobs_url, config.warnings) == (place, ())


def test_text_in_the_file_itself_is_no_number() -> None:
    (problem,) = _problems(_with(retry={"transportMaxRetries": "3"}))

    assert problem.message == "transportMaxRetries has to be a whole number, not text"


@pytest.mark.parametrize(
    "value",
    [
        _with(routes={"/a": [{"plugin": "${S}"}]}),
        _with(routes={"/a": [{"plugin": "builtin", "component": "x{${S}}"}]}),
        _with(routes={"/a": [{"plugin": "builtin", "conditions": [{"path": "$.${S}[", "value": 1}]}]}),
        _with(plugins={"a": {"type": "x-${S}"}}),
        _with(storageConfig={"type": "sqlite", "databaseUrl": "${S}"}),
        _with(storageConfig={"type": "${S}"}),
        _with(leaseManager={"type": "${S}"}),
        _with(retry={"backoff": {"type": "${S}"}, "transportMaxRetries": "${S}"}),
    ],
)
def test_a_value_of_the_environment_shows_in_no_problem(value: dict[str, Any]) -> None:
    problems = _problems(value, {"S": SECRET})

    assert SECRET not in repr(problems)


def test_a_value_of_the_environment_shows_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stepflow.config")
    value = _with(
        plugins={"builtin": {"type": "builtin", "${S}": 1, "extra": "${S}"}},
        storageConfig={"type": "sqlite", "databaseUrl": "sqlite:${S}"},
    )

    config = _load(value, {"S": SECRET})

    assert SECRET not in caplog.text
    assert "S" in caplog.text
    assert SECRET not in repr(config)


def test_retention_says_how_long_runs_are_kept() -> None:
    config = _load(_with(retention={"ageSecs": 3600, "keep": 100}))
    engine = open_engine(config)

    assert config.retention == RetentionSettings(age_s=3600, keep=100)
    assert engine._setup.retention == config.retention
    assert _load(_with()).retention is None


def test_a_switch_that_a_sqlite_file_has_not_is_warned_of() -> None:
    config = _load(_with(storageConfig={"type": "sqlite", "databaseUrl": "sqlite:runs.db", "autoMigrate": False}))

    assert [warning.path for warning in config.warnings] == ["$.storageConfig.autoMigrate"]


def test_a_retention_that_keeps_everything_is_warned_of() -> None:
    config = _load(_with(retention={"everySecs": 5}))

    assert "nothing is deleted" in str(config.warnings[0])
