"""The entry point: finds the command, runs it, and turns whatever goes wrong into one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import click

import stepflow
from stepflow.cli.failure import USAGE, exit_code, explain, explain_usage, leave
from stepflow.cli.impatience import INTERRUPTED, end_when_interrupted
from stepflow.cli.lazy import load_command
from stepflow.cli.logs import DESTINATIONS, FORMATS, LEVELS, set_up_logs
from stepflow.cli.start import is_interrupt
from stepflow.cli.streams import silence_stdout
from stepflow.plan.suggest import did_you_mean

COMMANDS = {
    "completion": "Print the completion script of a shell.",
    "config": "Look at the configuration.",
    "demo": "Audit all Python source on this machine, as a tour.",
    "help": "Show the help of a command.",
    "infer": "Check types and print the flow with inferred schemas.",
    "init": "Write a small project to start from.",
    "list-components": "List the components that a flow can call.",
    "recover": "Take over runs that nobody drives, and go on with them until they have ended.",
    "run": "Run a flow on one input or on many.",
    "runs": "Look at the runs in a store, and tell them what to do.",
    "test": "Run the test cases written in flows.",
    "validate": "Check flows and the configuration.",
    "visualize": "Draw a flow as SVG, PNG, DOT or Mermaid.",
}
EXTRAS = {"migrate": "postgres", "queues": "grpc", "serve": "grpc", "submit": "grpc", "worker": "grpc"}
"""Commands that another of our packages brings, and the extra that installs what it needs."""

ABOUT_OTHERS = {
    "migrate": "Bring a PostgreSQL database to the form that this version writes.",
    "queues": "Show the queues of a server: who serves them, and how much waits.",
    "serve": "Serve flows and runs to clients and workers on one port.",
    "submit": "Run a flow at a server, on one input or on many.",
    "worker": "Serve the components of a registry to a queue of a server.",
}

_QUIET = ("GRPC_VERBOSITY", "ERROR")
"""What failed is said by the commands. gRPC would say it too, in words of its own, and reads this as it is imported."""

_GROUP = "stepflow.commands"
_CODE = {"list-components": "list_components", "runs": "runs.group"}


class ReaderGoneError(Exception):
    """Nobody reads stdout any more."""


class Commands(click.Group):
    """Loads only the command that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *_others()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            return load_command(f"stepflow.cli.{_CODE.get(cmd_name, cmd_name)}", "command")
        found = _others().get(cmd_name)
        return None if found is None else _foreign(found)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and name not in _others():
            raise click.UsageError(_unknown(name, self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would end with 1, and on Python's terms
            raise ReaderGoneError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others = {
            name: ABOUT_OTHERS.get(name, f"From {found.value.split(':')[0]}.") for name, found in _others().items()
        }
        rows = sorted({**others, **COMMANDS}.items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _others() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=_GROUP)}


def _command(name: str, found: object) -> click.Command:
    if not isinstance(found, click.Command):
        raise TypeError(f"the command {name!r} is {type(found).__name__}, not a click command")
    return found


def _foreign(found: EntryPoint) -> click.Command:
    try:
        return _command(found.name, found.load())
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get(found.name)
        if extra is None:
            raise click.UsageError(f"the command {found.name!r} cannot be loaded: {missing}") from missing
        raise click.UsageError(_needs(found.name, extra)) from missing


def _unknown(name: str, known: Sequence[str]) -> str:
    if name in EXTRAS:
        return _needs(name, EXTRAS[name])
    near = did_you_mean(name, known)
    return f"there is no command {name!r}" + (f"; did you mean {near!r}?" if near else "")


def _needs(name: str, extra: str) -> str:
    return f"the command {name!r} is not installed; add it with: pip install 'stepflow-engine[{extra}]'"


def _no_telemetry(ctx: click.Context, option: click.Parameter, value: object) -> None:
    """Flags of the reference implementation that scripts may pass: they are taken, and said to do nothing."""
    if value:
        click.echo(f"warning: {option.opts[0]} has no effect: this version exports no telemetry", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(stepflow.__version__, "-V", "--version", prog_name="stepflow", message="%(prog)s %(version)s")
@click.option(
    "--log-level",
    type=click.Choice(tuple(LEVELS), case_sensitive=False),
    default="warn",
    show_default=True,
    envvar="STEPFLOW_LOG_LEVEL",
    help="How much of what happens is logged to stderr.",
)
@click.option(
    "--other-log-level",
    type=click.Choice(tuple(LEVELS), case_sensitive=False),
    default="warn",
    show_default=True,
    envvar="STEPFLOW_OTHER_LOG_LEVEL",
    help="The same for the libraries below.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS, case_sensitive=False),
    default="text",
    show_default=True,
    envvar="STEPFLOW_LOG_FORMAT",
    help="text, or a JSON object a line.",
)
@click.option(
    "--log-destination",
    type=click.Choice(DESTINATIONS, case_sensitive=False),
    envvar="STEPFLOW_LOG_DESTINATION",
    help="Where logs go. Not given: stderr, or the file of --log-file.",
)
@click.option("--log-file", metavar="FILE", envvar="STEPFLOW_LOG_FILE", help="The file that is logged to.")
@click.option("--trace-enabled", is_flag=True, expose_value=False, hidden=True, callback=_no_telemetry)
@click.option("--metrics-enabled", is_flag=True, expose_value=False, hidden=True, callback=_no_telemetry)
@click.option("--otlp-endpoint", metavar="URL", expose_value=False, hidden=True, callback=_no_telemetry)
@click.option("--debug", is_flag=True, help="Show where in the code an unexpected error arose.")
def cli(
    log_level: str,
    other_log_level: str,
    log_format: str,
    log_destination: str | None,
    log_file: str | None,
    debug: bool,
) -> None:
    """Run flows: steps in YAML or JSON that call components, on one input or on a million."""
    if log_destination == "file" and log_file is None:
        raise click.UsageError("--log-destination file needs --log-file FILE", click.get_current_context())
    level = "debug" if debug else log_level
    set_up_logs(level, other_log_level, log_format, log_file, log_destination)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 could not run, 2 usage, 3 an item failed, 130 interrupted."""
    os.environ.setdefault(*_QUIET)
    given, debug = _own(list(sys.argv[1:] if arguments is None else arguments))
    try:
        code = cli.main(args=given, prog_name="stepflow", standalone_mode=False)
        sys.stdout.flush()
        code = code if isinstance(code, int) else 0
        if arguments is None:  # otherwise there is a caller, whose threads are not ours to drop
            leave(code)
        sys.exit(code)
    except click.UsageError as error:
        explain_usage(error)
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        _leave_interrupted(is_own=arguments is None)
    except ReaderGoneError:
        silence_stdout()
        sys.exit(128 + 13)  # as if the signal had ended it
    except (Exception, BaseExceptionGroup) as error:  # every failure becomes a line; with --debug also the traceback
        if is_interrupt(error):
            _leave_interrupted(is_own=arguments is None)
        if not isinstance(error, Exception):
            raise
        explain(error, debug=debug)
        sys.exit(exit_code(error))


def _leave_interrupted(*, is_own: bool) -> NoReturn:
    """
    Args:
        is_own: the process is the command's, with all of its threads.
    """
    if is_own:
        end_when_interrupted()
    click.echo("interrupted", err=True)
    if is_own:
        leave(INTERRUPTED)
    sys.exit(INTERRUPTED)


def _own(given: list[str]) -> tuple[list[str], bool]:
    """Two flags may stand anywhere: `--debug`, and the reference implementation's for short errors, which ours are."""
    end = given.index("--") if "--" in given else len(given)
    anywhere = ("--debug", "--omit-stack-trace")
    rest = [text for index, text in enumerate(given) if index >= end or text not in anywhere]
    debug = "--debug" in given[:end]
    return (["--debug", *rest] if debug else rest), debug


if __name__ == "__main__":
    main()
