"""`stepflow config check`."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML


def test_without_a_file_the_default_is_shown(cli, project: Path) -> None:
    outcome = cli("config", "check")

    shown = YAML(typ="safe", pure=True).load(outcome.out)
    assert outcome.code == 0
    assert outcome.err == "from the built-in default\n"
    assert shown["routes"] == {"/builtin": [{"plugin": "builtin"}]}
    assert shown["retry"] == {
        "transportMaxRetries": 3,
        "backoff": {"type": "fibonacci", "minDelayMs": 1000, "maxDelayMs": 10000},
    }


def test_secrets_are_masked_and_the_environment_is_not_shown(
    cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUE", "hidden-in-the-environment")
    Path("stepflow-config.yml").write_text(
        "plugins:\n"
        "  far: {type: grpc, queueName: '${QUEUE}', env: {API_KEY: sesame, URL: 'http://me:sesame@host/x'}}\n"
        "routes: {/far: [{plugin: far}]}\n"
        "recovery: {maxClaimsPerCheck: 3}\n"
    )

    outcome = cli("config", "check", "flow.yaml")

    shown = YAML(typ="safe", pure=True).load(outcome.out)
    assert "sesame" not in outcome.out + outcome.err
    assert "hidden-in-the-environment" not in outcome.out + outcome.err
    assert shown["plugins"]["far"]["env"] == {"API_KEY": "[REDACTED]", "URL": "http://me:[REDACTED]@host/x"}
    assert shown["plugins"]["far"]["queueName"] == "${QUEUE}"
    assert shown["recovery"]["maxClaimsPerCheck"] == 3
    assert "from stepflow-config.yml" in outcome.err


def test_a_configuration_that_cannot_be_used_is_not_shown(cli, project: Path) -> None:
    Path("bad.yml").write_text("plugins: {}\nroutes: {/x: [{plugin: nobody}]}\n")

    outcome = cli("config", "check", "--config", "bad.yml")

    assert (outcome.code, outcome.out) == (1, "")
    assert "bad.yml:2:" in outcome.err


def test_what_only_servers_heed_is_shown_where_it_is_written(cli, project: Path) -> None:
    pools = "pools:\n  gpu: {app: 'components:app', replicas: 2, env: {API_TOKEN: hunter2}}\n"
    Path("stepflow-config.yml").write_text(f"plugins: {{}}\nroutes: {{}}\nsecrets: strict\n{pools}")

    outcome = cli("config", "check")

    assert outcome.code == 0
    assert "secrets: strict" in outcome.out
    assert "replicas: 2" in outcome.out
    assert "hunter2" not in outcome.out
