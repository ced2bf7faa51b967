"""`stepflow help [COMMAND]`."""

import click

from stepflow.cli.failure import tell


@click.command("help")
@click.argument("name", metavar="COMMAND", required=False)
@click.pass_context
def command(ctx: click.Context, name: str | None) -> None:
    """Show the help of a command."""
    parent = ctx.parent
    assert parent is not None
    group = parent.command
    if name is None:
        tell(parent.get_help())
        return
    assert isinstance(group, click.Group)
    _, found, _ = group.resolve_command(parent, [name])
    assert found is not None
    with click.Context(found, info_name=name, parent=parent) as inner:
        tell(found.get_help(inner))
