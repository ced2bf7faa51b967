"""Options that the commands on runs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    return click.option(
        "--store",
        envvar="STEPFLOW_STORE",
        metavar="FILE|URL",
        help="Where the runs are. Not given: STEPFLOW_STORE, then the configuration, then the one store here.",
    )(command)


def place_options(command: F) -> F:
    """--store and --config, as `named_place` takes them."""
    command = click.option(
        "--config",
        type=click.Path(),
        metavar="FILE",
        help="The configuration that names the store. Not given: stepflow-config.yml here.",
    )(command)
    return store_option(command)


def run_argument(command: F) -> F:
    return click.argument("run", metavar="RUN")(command)


def runs_argument(command: F) -> F:
    return click.argument("runs", metavar="RUN...", nargs=-1, required=True)(command)


def json_option(form: str) -> Callable[[F], F]:
    return click.option("--json", "as_json", is_flag=True, help=f"Print {form} instead of a table.")
