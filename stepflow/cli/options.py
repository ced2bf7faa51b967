"""Options that several commands share, spelled the same everywhere."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|m|h|d)?")


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be typed."""
    return "\n".join(("\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A number of seconds, or of another unit that is written behind it."""
    if value is None:
        return None
    found = _DURATION.fullmatch(value.strip())
    seconds = float(found[1]) * _UNITS[found[2] or ""] if found else 0.0
    if not 0 < seconds < float("inf"):
        raise click.BadParameter(
            f"{value!r} is not a time above 0; write seconds, or 500ms, 90s, 5m, 2h, 30d", ctx, param
        )
    return seconds


def filled(ctx: click.Context, param: click.Parameter, value: T) -> T:
    """A text, or several, of which none is empty, as one is that was meant to come out of an unset variable."""
    for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
        if not text.strip():
            raise click.BadParameter("it is empty, and names nothing", ctx, param)
    return value


def flow_options(command: F) -> F:
    """FLOW, or --flow: `chosen_flow` gives the one that was written."""
    command = click.option(
        "--flow", "flow_option", type=click.Path(), metavar="FLOW", help="The flow's file, as FLOW."
    )(command)
    return click.argument("flow", type=click.Path(), metavar="FLOW", required=False)(command)


def chosen_flow(flow: str | None, flow_option: str | None) -> str:
    if flow is not None and flow_option is not None:
        raise click.UsageError(f"the flow is given twice: {flow} and --flow {flow_option}", click.get_current_context())
    chosen = flow if flow is not None else flow_option
    if chosen is None:
        raise click.UsageError("name the flow's file: FLOW or --flow FLOW", click.get_current_context())
    return chosen


def engine_options(command: F) -> F:
    """--app and --config, for a flow that is a file."""
    return app_option(_config_option("stepflow-config.yml beside the flow, then here")(command))


def stored_engine_options(command: F) -> F:
    """--app and --config, for runs that are stored."""
    return app_option(_config_option("stepflow-config.yml here")(command))


def _config_option(sought: str) -> Callable[[F], F]:
    text = f"The configuration. Not given: {sought}; else builtins only."
    return click.option("--config", type=click.Path(), callback=filled, metavar="FILE", help=text)


def app_option(command: F) -> F:
    return click.option(
        "--app",
        "apps",
        metavar="[/PREFIX=]MODULE:REGISTRY",
        multiple=True,
        help="Components of your own; repeat it for more. The current directory can be imported from.",
    )(command)


def concurrency_option(command: F) -> F:
    return click.option(
        "--max-concurrency",
        "--max-concurrent",
        "max_concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Most steps that run at the same time. Not given: as many as make sense.",
    )(command)


def _named_key(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("a key is a name, not empty", ctx, param)
    return value


def store_options(command: F) -> F:
    """--store, and what is meant when the same line is typed again."""
    for option in (
        click.option(
            "--secrets",
            type=click.Choice(("refuse", "plain")),
            default="refuse",
            show_default=True,
            help="Whether a durable store may keep secrets in clear that were given here. With STEPFLOW_SECRET_KEY set "
            "it never does: they are sealed.",
        ),
        click.option("--new", is_flag=True, help="Start over, whatever run has the key."),
        click.option(
            "--key",
            callback=_named_key,
            metavar="NAME",
            help="The run's name in the store. Not given: made of the flow, its variables, overrides and inputs.",
        ),
        click.option(
            "--store",
            envvar="STEPFLOW_STORE",
            callback=filled,
            metavar="FILE|URL",
            help="Keep runs here, and go on with one that the same line has begun. Not given: STEPFLOW_STORE, then the "
            "configuration, then memory.",
        ),
    ):
        command = option(command)
    return command


def input_options(command: F) -> F:
    """--input and its relatives; at most one of them."""
    for option in (
        click.option(
            "--stdin-format",
            type=click.Choice(("json", "yaml")),
            default="json",
            show_default=True,
            help="What the one input is that stdin holds when no input is given.",
        ),
        click.option(
            "--inputs",
            type=click.Path(allow_dash=True),
            metavar="FILE|-",
            help="Many inputs: JSON Lines, one input a line.",
        ),
        click.option("--input-yaml", metavar="TEXT", help="One input as YAML text."),
        click.option("--input-json", metavar="TEXT", help="One input as JSON text."),
        click.option(
            "--input",
            type=click.Path(allow_dash=True),
            metavar="JSON|FILE|-",
            help="One input: JSON text, a JSON or YAML file, or stdin.",
        ),
    ):
        command = option(command)
    return command


def variable_options(command: F) -> F:
    for option in (
        click.option("--env-variables", is_flag=True, help="Read variables that are not given from the environment."),
        click.option("--variables-yaml", metavar="TEXT", help="Variables as YAML text."),
        click.option("--variables-json", metavar="TEXT", help="Variables as JSON text."),
        click.option(
            "--variables",
            type=click.Path(),
            metavar="FILE",
            help="Variables: a JSON or YAML file that holds an object.",
        ),
    ):
        command = option(command)
    return command


def override_options(command: F) -> F:
    for option in (
        click.option("--overrides-yaml", metavar="TEXT", help="Overrides as YAML text."),
        click.option("--overrides-json", metavar="TEXT", help="Overrides as JSON text."),
        click.option(
            "--overrides", type=click.Path(), metavar="FILE", help="Patches of steps for this run: a JSON or YAML file."
        ),
    ):
        command = option(command)
    return command


def at_most_one(**given: object) -> None:
    """Refuse options that exclude each other; names are spelled as Python spells them."""
    written = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if len(written) > 1:
        raise click.UsageError(f"{' and '.join(written)} exclude each other", click.get_current_context())
