"""`stepflow completion SHELL`."""

import click
from click.shell_completion import get_completion_class

from stepflow.cli.failure import CommandError, tell

_HOMES = {
    "bash": 'eval "$(stepflow completion bash)"       # in ~/.bashrc',
    "zsh": 'eval "$(stepflow completion zsh)"        # in ~/.zshrc',
    "fish": "stepflow completion fish > ~/.config/fish/completions/stepflow.fish",
}


@click.command("completion", epilog="\b\n" + "\n".join(_HOMES.values()))
@click.argument("shell", type=click.Choice(tuple(_HOMES)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    found = get_completion_class(shell)
    if found is None:
        raise CommandError(f"there is no completion for {shell}")
    completer = found(ctx.find_root().command, {}, "stepflow", "_STEPFLOW_COMPLETE")
    tell(completer.source_template % completer.source_vars())
