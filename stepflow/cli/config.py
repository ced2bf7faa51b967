"""`stepflow config check`: what would be used, with secrets masked."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import click
from msgspec.structs import replace

from stepflow.cli.failure import problem_lines, say, tell
from stepflow.cli.findings import config_findings
from stepflow.cli.logs import muted
from stepflow.cli.opening import chosen_config
from stepflow.cli.options import examples
from stepflow.cli.yaml_text import yaml_text
from stepflow.config.model import Config
from stepflow.config.read import DEFAULT, load_config
from stepflow.errors import ConfigError
from stepflow.flow.document import load_document
from stepflow.flow.schema import REDACTED
from stepflow.records import Json

_SECRET = re.compile(r"secret|token|password|passwd|credential|api_?key", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/:@\s]*:)[^/@\s]+@")
_RECOVERY = {
    "enabled": "enabled",
    "checkIntervalSecs": "check_interval_s",
    "leaseTtlSecs": "lease_ttl_s",
    "maxStartupRecovery": "max_startup_recovery",
    "maxClaimsPerCheck": "max_claims_per_check",
    "checkpointInterval": "checkpoint_interval",
}


@click.group("config")
def command() -> None:
    """Look at the configuration."""


@command.command("check", epilog=examples("stepflow config check flow.yaml"))
@click.argument("flow", type=click.Path(), metavar="[FLOW]", required=False)
@click.option("--config", type=click.Path(), metavar="FILE", help="Not given: as `stepflow run FLOW` would find it.")
def check(flow: str | None, config: str | None) -> None:
    """Print the configuration that would be used.

    Defaults are filled in. Values from the environment are shown as they are written, secrets as [REDACTED].
    """
    file = chosen_config(config, flow)
    with muted("stepflow.config"):
        found = config_findings(file)
        if any(problem.level != "warning" for problem in found):
            raise ConfigError(found)
        loaded = load_config(file, environ=os.environ)
    for line in problem_lines(replace(problem, text=None) for problem in found):  # the text may hold a secret
        say(line)
    say(f"from {file or 'the built-in default'}")
    tell(yaml_text(effective(loaded, _written(file))).rstrip())


def _written(file: Path | None) -> Mapping[str, Json]:
    value = DEFAULT if file is None else load_document(file, error=ConfigError).value
    return value if isinstance(value, Mapping) else {}


def effective(config: Config, written: Mapping[str, Json]) -> dict[str, Json]:
    """Plugins and routes as written, everything else with its defaults."""
    shown: dict[str, Json] = {
        "workingDirectory": str(config.working_directory),
        "plugins": masked(written.get("plugins")),
        "routes": masked(written.get("routes")),
        "storageConfig": masked(written.get("storageConfig") or {"type": config.storage.metadata.type}),
        "recovery": {key: getattr(config.recovery, field) for key, field in _RECOVERY.items()},
        "retry": {"transportMaxRetries": config.retry.transport_max_retries, "backoff": _backoff(config)},
    }
    for key in ("pools", "server", "secrets"):  # of servers alone, so shown where they are written
        if written.get(key) is not None:
            shown[key] = masked(written[key])
    return shown


def _backoff(config: Config) -> dict[str, Json]:
    backoff = config.retry.backoff
    shown: dict[str, Json] = {"type": backoff.type}
    if backoff.type == "constant":
        return {**shown, "delayMs": backoff.delay_ms}
    shown |= {"minDelayMs": backoff.min_delay_ms, "maxDelayMs": backoff.max_delay_ms}
    return {**shown, "factor": backoff.factor} if backoff.type == "exponential" else shown


def masked(value: Json, key: str = "") -> Json:
    """A copy in which nothing secret is left, as far as names and URLs tell."""
    match value:
        case dict():
            return {name: masked(item, name) for name, item in value.items()}
        case list():
            return [masked(item, key) for item in value]
        case str() if "${" in value:
            return value
        case str() if _SECRET.search(key):
            return REDACTED
        case str():
            return _URL_PASSWORD.sub(rf"\1{REDACTED}@", value)
        case _:
            return value
