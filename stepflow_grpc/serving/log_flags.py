"""The flags of logging behind the command's name, where the reference's server takes them; ours stand before it too."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from stepflow.cli.logs import DESTINATIONS, FORMATS, LEVELS, set_up_logs

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LEVEL = click.Choice(tuple(LEVELS), case_sensitive=False)
_OPTIONS = {
    "log_level": click.option("--log-level", type=_LEVEL, hidden=True),
    "other_log_level": click.option("--other-log-level", type=_LEVEL, hidden=True),
    "log_format": click.option("--log-format", type=click.Choice(FORMATS, case_sensitive=False), hidden=True),
    "log_destination": click.option("--log-destination", type=click.Choice(DESTINATIONS), hidden=True),
    "log_file": click.option("--log-file", hidden=True),
}
_OF_TELEMETRY = {
    "trace_enabled": click.option("--trace-enabled", is_flag=True, hidden=True),
    "metrics_enabled": click.option("--metrics-enabled", is_flag=True, hidden=True),
    "otlp_endpoint": click.option("--otlp-endpoint", hidden=True),
}


def log_options(command: _Command) -> _Command:
    """The flags, whose values `heed_log_flags` takes."""
    for option in (*_OPTIONS.values(), *_OF_TELEMETRY.values()):
        command = option(command)
    return command


def heed_log_flags(ctx: click.Context, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Log as these flags say, where there are any. Returns: the other flags."""
    for name in _OF_TELEMETRY:
        if flags[name]:
            shown = f"--{name.replace('_', '-')}"
            click.echo(f"warning: {shown} has no effect: this version exports no telemetry", err=True)
    given = {name: flags[name] for name in _OPTIONS if flags[name] is not None}
    if given:
        _set_up(ctx, given)
    return {name: value for name, value in flags.items() if name not in _OPTIONS and name not in _OF_TELEMETRY}


def _set_up(ctx: click.Context, given: Mapping[str, Any]) -> None:
    before = ctx.parent.params if ctx.parent is not None else {}
    asked = {"log_level": "warn", "other_log_level": "warn", "log_format": "text", **before, **given}
    if asked.get("log_destination") == "file" and asked.get("log_file") is None:
        raise click.UsageError("--log-destination file needs --log-file FILE", ctx)
    level = "debug" if asked.get("debug") else asked["log_level"]
    where = asked.get("log_file"), asked.get("log_destination")
    set_up_logs(level, asked["other_log_level"], asked["log_format"], *where)
