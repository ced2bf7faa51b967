"""Groups of commands that load only the one that runs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from stepflow.plan.suggest import did_you_mean


def load_command(module: str, name: str) -> click.Command:
    """The command that a module has under the name `command`, or under another."""
    found = getattr(import_module(module), name, None)
    if not isinstance(found, click.Command):
        raise TypeError(f"{module} has no click command {name!r}, but {type(found).__name__}")
    return found


class LazyGroup(click.Group):
    """Each command by its help and by where it is written, as `module:name`."""

    def __init__(self, *, commands_by_place: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self._places = commands_by_place

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return None
        module, _, name = self._places[cmd_name][1].partition(":")
        return load_command(module, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._places:
            near = did_you_mean(args[0], list(self._places))
            meant = f"; did you mean {near!r}?" if near else ""
            raise click.UsageError(f"there is no command {ctx.info_name} {args[0]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (about, _) in self._places.items()])
