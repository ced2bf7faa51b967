"""Runs at a server instead of in a store, through whichever of our packages reaches servers."""

from importlib.metadata import entry_points
from typing import Protocol

import click

from stepflow.cli.failure import CommandError
from stepflow.errors import StepflowError
from stepflow.protocols import Backend

_GROUP = "stepflow.servers"
_REMEDY = "add it with: pip install 'stepflow-engine[grpc]'"


class Desk(Protocol):
    """A server, as the commands on runs see it: an entry point of `stepflow.servers`, made from its URL."""

    @property
    def name(self) -> str:
        """Its address, for people."""
        ...

    def reader(self) -> Backend:
        """The parts of its store that are looked at; messages to runs go through its engine."""
        ...

    def retry(self, run_id: str, output: str | None, *, place: str) -> int:
        """Have failed items tried again, write all results, and give the exit code.

        Args:
            output: a file; None is stdout.
            place: how the server is named on the command line, for lines that can be typed.
        """
        ...


def desk_at(url: str) -> Desk:
    """
    Raises:
        CommandError: nothing that is installed reaches servers.
        click.UsageError: the url is none.
    """
    for entry in entry_points(group=_GROUP):
        try:
            desk: Desk = entry.load()(url)
        except ModuleNotFoundError as missing:
            raise CommandError(f"--url needs {missing.name}; {_REMEDY}") from missing
        except StepflowError as error:
            raise click.UsageError(f"--url: {error}", click.get_current_context()) from error
        return desk
    raise CommandError(f"nothing that is installed reaches servers; {_REMEDY}")
