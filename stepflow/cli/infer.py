"""`stepflow infer FLOW`: the flow, with the schemas that it leaves out."""

from collections.abc import Iterable
from pathlib import Path

import anyio
import click

from stepflow.cli.failure import COULD_NOT_RUN, CommandError, os_error_text, problem_lines, say, tell
from stepflow.cli.knowledge import by_path, listed_components
from stepflow.cli.options import chosen_flow, engine_options, examples, flow_options
from stepflow.cli.yaml_text import yaml_text
from stepflow.errors import Problem
from stepflow.flow.identity import flow_to_json
from stepflow.flow.model import Flow
from stepflow.flow.read import read_flow
from stepflow.plan.checks import Diagnostic, check, located
from stepflow.plan.infer import Inferred, infer

_BESIDE = "\0"  # no file is called so: --output without a value


@click.command("infer", epilog=examples("stepflow infer flow.yaml --app components:app"))
@flow_options
@click.option(
    "-o",
    "--output",
    is_flag=False,
    flag_value=_BESIDE,
    metavar="[FILE]",
    help="Write it there; without a value, to <flow>.inferred.yaml. Not given: to stdout.",
)
@click.option("--show-step-inputs", is_flag=True, help="Show what each step is given and what its component takes.")
@click.option("--strict", is_flag=True, help="A type that cannot be told is an error.")
@engine_options
@click.pass_context
def command(
    ctx: click.Context,
    flow: str | None,
    flow_option: str | None,
    output: str | None,
    show_step_inputs: bool,
    strict: bool,
    config: str | None,
    apps: tuple[str, ...],
) -> None:
    """Check types and print the flow with inferred schemas.

    The flow is YAML; what was found goes to stderr. Exit code 1 where a type does not fit.
    """
    path = chosen_flow(flow, flow_option)
    read = read_flow(path)
    listed = anyio.run(listed_components, config, path, apps)
    found = infer(read, by_path(listed).get, strict=strict)
    problems = problems_of(read, found)
    for line in [*problem_lines(problems), *type_lines(found, inputs=show_step_inputs)]:
        say(line)
    write(yaml_text(flow_to_json(found.flow)), Path(path), output)
    wrong = any(problem.level != "warning" or (strict and problem.code == 1101) for problem in problems)
    ctx.exit(COULD_NOT_RUN if wrong else 0)


def problems_of(flow: Flow, found: Inferred) -> tuple[Problem, ...]:
    """Everything but experimental diagnostics, each place once."""
    diagnostics: dict[tuple[int, object], Diagnostic] = {}
    for each in (*check(flow), *found.diagnostics, *found.conflicts):
        if not each.experimental:
            diagnostics.setdefault((each.code, each.place), each)
    return (*flow.warnings, *located(list(diagnostics.values()), flow))


def type_lines(found: Inferred, *, inputs: bool) -> Iterable[str]:
    for step in found.steps:
        if inputs:
            yield f"{step.id}: is given {step.input}, takes {step.accepts}, gives {step.output}"
        else:
            yield f"{step.id}: {step.output}"
    yield f"output: {found.output}"


def write(text: str, flow: Path, output: str | None) -> None:
    if output is None:
        tell(text.rstrip())
        return
    target = flow.with_suffix(".inferred.yaml") if output == _BESIDE else Path(output)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the flow cannot be written to {os_error_text(error)}") from None
    say(f"written: {target}")
