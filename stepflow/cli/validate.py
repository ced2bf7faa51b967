"""`stepflow validate FLOW…`: everything that is wrong or doubtful, with its place."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import click
import msgspec

from stepflow.cli.failure import COULD_NOT_RUN, problem_lines, tell
from stepflow.cli.findings import config_findings, flow_findings, type_findings
from stepflow.cli.knowledge import by_path, listed_components
from stepflow.cli.logs import muted
from stepflow.cli.opening import chosen_config
from stepflow.cli.options import engine_options, examples
from stepflow.cli.reach import Reach
from stepflow.errors import Problem
from stepflow.flow.read import read_flow


@click.command("validate", epilog=examples("stepflow validate flow.yaml"))
@click.argument("flows", type=click.Path(), metavar="FLOW...", nargs=-1)
@click.option("--flow", "more", type=click.Path(), metavar="FLOW", multiple=True, help="A flow's file, as FLOW.")
@engine_options
@click.option("--type-check", is_flag=True, help="Check the types of inputs and outputs too, as far as they are known.")
@click.option("--strict", is_flag=True, help="With --type-check: what cannot be decided is an error.")
@click.option("--all", "everything", is_flag=True, help="Show experimental diagnostics too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for programs.")
@click.pass_context
def command(
    ctx: click.Context,
    flows: tuple[str, ...],
    more: tuple[str, ...],
    config: str | None,
    apps: tuple[str, ...],
    type_check: bool,
    strict: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Check flows and the configuration.

    Everything that is wrong or doubtful is shown where it stands, the configuration that would be used included.
    Exit code 0 when nothing keeps them from running; warnings do not.
    """
    names = [*flows, *more]
    if not names:
        raise click.UsageError("name the flow's file: FLOW or --flow FLOW", ctx)
    if strict and not type_check:
        raise click.UsageError("--strict needs --type-check", ctx)
    with muted("stepflow.config"):
        found = _findings(
            names, config, apps, types="strict" if strict else "gradual" if type_check else "", all=everything
        )
    show(found, len(names), as_json=as_json)
    ctx.exit(COULD_NOT_RUN if _has_errors(found) else 0)


def _findings(names: Sequence[str], config: str | None, apps: Sequence[str], *, types: str, all: bool) -> list[Problem]:
    found: list[Problem] = []
    for file in dict.fromkeys(chosen_config(config, name) for name in names):
        found += config_findings(file)
    config_is_sound = not _has_errors(found)
    for name in names:
        of_flow = flow_findings(name, experimental=all)
        found += of_flow
        if not config_is_sound or _has_errors(of_flow):
            continue
        if apps or config:
            reach = Reach(config, name, apps)
            found += _unavailable(reach, found)
            found += reach.unanswered(read_flow(name))
        if types:
            listed = anyio.run(listed_components, config, name, apps)
            found += type_findings(name, by_path(listed), strict=types == "strict")
    return found


def _unavailable(reach: Reach, known: Sequence[Problem]) -> list[Problem]:
    """A warning a plugin that can't be had here, without those that are known."""
    texts = [text for text in reach.unavailable if not any(problem.message in text for problem in known)]
    return [Problem(message=text, level="warning") for text in texts]


def show(found: Sequence[Problem], files: int, *, as_json: bool) -> None:
    if as_json:
        tell(msgspec.json.encode(report(found)).decode())
        return
    for line in problem_lines(found):
        tell(line)
    tell(summary(found, files))


def report(found: Sequence[Problem]) -> dict[str, Any]:
    """The findings for programs; a place that is not known is left out."""
    shown = [
        {name: value for name, value in msgspec.structs.asdict(problem).items() if value not in (None, 0)}
        for problem in found
    ]
    levels = Counter(problem.level for problem in found)
    return {"fatal": levels["fatal"], "errors": levels["error"], "warnings": levels["warning"], "diagnostics": shown}


def summary(found: Sequence[Problem], files: int) -> str:
    errors = sum(problem.level != "warning" for problem in found)
    counts = [(errors, "error"), (len(found) - errors, "warning")]
    said = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count)
    return f"{files} {'flow' if files == 1 else 'flows'} checked: {said or 'nothing is wrong'}"


def _has_errors(found: Sequence[Problem]) -> bool:
    return any(problem.level != "warning" for problem in found)
