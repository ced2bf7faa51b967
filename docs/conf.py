"""How Sphinx builds the documentation: `make docs`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import stepflow
from stepflow.cli.main import cli

sys.path.insert(0, str(Path(__file__).parent))
import wire

project = "stepflow"
author = "The stepflow authors"
copyright = author
version = release = stepflow.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"stepflow {release}"

default_role = "code"
smartquotes = False
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False


class Options(SphinxDirective):
    """What a command says of itself and of its options, as its `--help` has it."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        command: click.Command = cli
        context = click.Context(cli)
        for name in () if self.arguments[0] == "stepflow" else self.arguments[0].split():
            assert isinstance(command, click.Group)
            found = command.get_command(context, name)
            if found is None:
                raise self.error(f"there is no command {self.arguments[0]!r}")
            command = found
        content = nodes.container()
        lines = StringList(list(_lines(command, is_root=command is cli)), source=self.env.docname)
        self.state.nested_parse(lines, self.content_offset, content)
        return content.children


class Wire(SphinxDirective):
    """What a file of the protocol says: its services, messages and enums, with every field."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        content = nodes.container()
        lines = StringList(list(wire.lines(self.arguments[0])), source=self.env.docname)
        self.state.nested_parse(lines, self.content_offset, content)
        return content.children


def _lines(command: click.Command, *, is_root: bool) -> Iterator[str]:
    given = " ".join(piece for param in _arguments(command) for piece in param.get_usage_pieces(click.Context(command)))
    if not is_root:
        yield from (*(line.strip() for line in (command.help or "").splitlines()), "")
    if given:
        yield from (f"Arguments: `{given}`", "")
    options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    if options:
        yield from ("| Option | Meaning |", "|---|---|", *map(_row, options))


def _arguments(command: click.Command) -> list[click.Parameter]:
    return [param for param in command.params if isinstance(param, click.Argument)]


def _row(option: click.Option) -> str:
    value = option.metavar or "|".join(getattr(option.type, "choices", ())) or "VALUE"
    names = [f"`{name}`" for name in (*option.opts, *option.secondary_opts)]
    if not option.is_flag:
        names[-1] = f"{names[-1][:-1]} {value}`"
    default = option.default if isinstance(option.default, str) else None
    text = " ".join(filter(None, (option.help, f"Default: `{default}`." if default else None)))
    cells = (cell.replace("|", "\\|") for cell in (", ".join(names), text.replace("<", "&lt;")))
    return f"| {' | '.join(cells)} |"


def setup(app: Sphinx) -> None:
    app.add_directive("options", Options)
    app.add_directive("wire", Wire)
