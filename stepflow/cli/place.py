"""A store or a server as it was named on the command line, and its runs as they are named there."""

import shlex

import msgspec

from stepflow.protocols import Backend
from stepflow.records import RunId


class Place(msgspec.Struct, frozen=True):
    """A store, or a server, as it was named."""

    location: str
    is_known: bool = False  # the next command will find it by itself
    is_server: bool = False

    @property
    def name(self) -> str:
        """What people call it, without secrets."""
        if self.is_server:
            return self.location
        return shown(self.location)

    @property
    def where(self) -> str:
        """Such as `in runs.db`."""
        return f"{'at' if self.is_server else 'in'} {self.name}"

    def line(self, command: str) -> str:
        """A command as it can be typed, about the same store."""
        if self.is_known:
            return command
        if self.is_server:
            return f"{command} --url {shlex.quote(self.location)}"
        return f"{command} --store {'…' if '://' in self.location else shlex.quote(self.name)}"


def shown(location: str) -> str:
    """A store's location without its password and its parameters."""
    if "://" in location:
        scheme, _, rest = location.partition("?")[0].partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return location.removeprefix("sqlite:").partition("?")[0] if location.startswith("sqlite:") else location


async def short_id(backend: Backend, run_id: RunId, least: int = 8) -> str:
    """The beginning of a root run's id that no other has."""
    for length in (least, 13, 18, 23):
        if len(await backend.runs.find(run_id[:length])) == 1:
            return run_id[:length]
    return run_id


async def is_newest(backend: Backend, run_id: RunId) -> bool:
    """Whether `last` means this run now."""
    return run_id in await backend.runs.find("last")
