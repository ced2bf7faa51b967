"""`stepflow init DIR`: a small project to start from."""

from importlib.resources import files
from pathlib import Path

import click

from stepflow.cli.failure import CommandError, os_error_text, say
from stepflow.cli.options import examples

_SUFFIX = ".template"  # keeps Python that is data from being taken for ours


@click.command("init", epilog=examples("stepflow init hello"))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over files that are there.")
def command(directory: Path, force: bool) -> None:
    """Write a small project to start from.

    It has a flow, its components, inputs, tests, and configurations for development and production.
    """
    found = templates()
    taken = sorted(name for name in found if (directory / name).exists())
    if taken and not force:
        raise CommandError(f"{directory} has {', '.join(taken)} already; --force writes over them")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in found.items():
            (directory / name).write_bytes(content)
    except OSError as error:
        raise CommandError(f"the project cannot be written: {os_error_text(error)}") from None
    say(f"written to {directory}: {', '.join(found)}")
    go = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    say(f'next: {go}stepflow run flow.yaml --app components:app --input \'{{"text": "hi there"}}\'')


def templates() -> dict[str, bytes]:
    """The files of the project, by name."""
    folder = files("stepflow.cli").joinpath("templates")
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(_SUFFIX): file.read_bytes() for file in found if file.is_file()}
