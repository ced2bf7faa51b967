"""Options that the commands on runs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from stepflow.cli.options import filled

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    return click.option(
        "--store",
        envvar="STEPFLOW_STORE",
        callback=filled,
        metavar="FILE|URL",
        help="Where the runs are. Not given: STEPFLOW_STORE, then the configuration, then the one store here.",
    )(command)


def url_option(command: F) -> F:
    return click.option(
        "--url",
        metavar="URL",
        callback=filled,
        help="Ask the server there instead: host:port, or https://host:port. "
        "Also STEPFLOW_URL, where no store is named.",
    )(command)


def place_options(command: F) -> F:
    """--url, --store and --config, as `named_place` takes them."""
    command = click.option(
        "--config",
        type=click.Path(),
        callback=filled,
        metavar="FILE",
        help="The configuration that names the store. Not given: stepflow-config.yml here.",
    )(command)
    return url_option(store_option(command))


def run_argument(command: F) -> F:
    return click.argument("run", metavar="RUN", callback=filled)(command)


def runs_argument(command: F) -> F:
    return click.argument("runs", metavar="RUN...", nargs=-1, required=True, callback=filled)(command)


def json_option(form: str) -> Callable[[F], F]:
    return click.option("--json", "as_json", is_flag=True, help=f"Print {form} instead of a table.")
