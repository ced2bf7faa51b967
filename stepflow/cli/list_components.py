"""`stepflow list-components`: what a flow can call."""

from collections.abc import Sequence
from typing import Any

import anyio
import click
import msgspec

from stepflow.cli.failure import say, tell
from stepflow.cli.knowledge import listed_components
from stepflow.cli.options import engine_options, examples
from stepflow.cli.reach import Reach
from stepflow.cli.yaml_text import yaml_text
from stepflow.engine import ListedComponent


@click.command("list-components", epilog=examples("stepflow list-components --app components:app"))
@engine_options
@click.option("--format", type=click.Choice(("pretty", "json", "yaml")), default="pretty", show_default=True)
@click.option("--schemas", type=bool, metavar="true|false", help="Show schemas. Not given: only in JSON and YAML.")
@click.option(
    "--hide-unreachable",
    type=bool,
    default=True,
    show_default=True,
    metavar="true|false",
    help="Leave out what no route leads to.",
)
def command(
    config: str | None, apps: tuple[str, ...], format: str, schemas: bool | None, hide_unreachable: bool
) -> None:
    """List the components that a flow can call."""
    for text in Reach(config, None, apps).unavailable:
        say(f"warning: {text}")
    listed = sorted(anyio.run(listed_components, config, None, apps), key=lambda each: (each.routes, each.info.id))
    shown = [each for each in listed if each.routes or not hide_unreachable]
    with_schemas = format != "pretty" if schemas is None else schemas
    if format == "pretty":
        tell(pretty(shown, with_schemas=with_schemas))
        return
    document = {"components": [described(each, with_schemas=with_schemas) for each in shown]}
    tell(msgspec.json.encode(document).decode() if format == "json" else yaml_text(document).rstrip())


def described(each: ListedComponent, *, with_schemas: bool) -> dict[str, Any]:
    info = each.info
    schemas = {"input_schema": info.input_schema, "output_schema": info.output_schema} if with_schemas else {}
    return {
        "component": info.id,
        "path": info.path or f"/{info.id.removeprefix('/')}",
        "description": info.description,
        **schemas,
        "plugin": each.plugin,
        "routes": list(each.routes),
    }


def pretty(shown: Sequence[ListedComponent], *, with_schemas: bool) -> str:
    if not shown:
        return "No components found."
    lines = ["Available Components:", "====================", ""]
    for each in shown:
        lines.append(f"Component: {each.info.id} (plugin: {each.plugin})")
        if each.info.description:
            lines.append(f"  Description: {each.info.description.strip().splitlines()[0]}")
        lines += ["  Available Routes:", *(f"    {route}" for route in each.routes)]
        if with_schemas:
            lines += _schema_lines("Input", each.info.input_schema) + _schema_lines("Output", each.info.output_schema)
        lines.append("")
    return "\n".join([*lines, f"Total components: {len(shown)}"])


def _schema_lines(face: str, schema: Any) -> list[str]:
    if schema is None:
        return []
    text = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
    return [f"  {face} Schema:", *(f"    {line}" for line in text.splitlines())]
