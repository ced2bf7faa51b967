"""`stepflow run FLOW`: one input or many, in this process."""

from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import click

from stepflow.cli.execution import Execution
from stepflow.cli.failure import problem_lines, say, tell
from stepflow.cli.job import Job
from stepflow.cli.lines import InputFile
from stepflow.cli.opening import storing_engine
from stepflow.cli.options import (
    at_most_one,
    chosen_flow,
    concurrency_option,
    duration,
    engine_options,
    examples,
    filled,
    flow_options,
    input_options,
    override_options,
    store_options,
    variable_options,
)
from stepflow.cli.progress import Tally, is_wanted
from stepflow.cli.results import open_results
from stepflow.cli.resuming import key_of, submit
from stepflow.cli.values import (
    digest_of,
    environment_variables,
    given_overrides,
    given_variables,
    is_of_stdin,
    single_input,
)
from stepflow.flow.model import Flow
from stepflow.flow.read import read_flow
from stepflow.plan.checks import check, located

_GROUP_LENGTH = 17


@click.command(
    "run",
    epilog=examples(
        "stepflow run flow.yaml --app components:app --inputs inputs.jsonl --output out.jsonl --store runs.db"
    ),
)
@flow_options
@input_options
@engine_options
@variable_options
@override_options
@concurrency_option
@store_options
@click.option(
    "--validation", type=click.Choice(("strict", "warn", "off")), help="Whether inputs and variables must fit."
)
@click.option("--timeout", callback=duration, metavar="TIME", help="End the run after so many seconds (or 5m, 2h).")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    callback=filled,
    metavar="FILE",
    help="Write results here; the file gets its name when it is complete.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Where another engine drives the run already: don't wait for its results.",
)
@click.pass_context
def command(ctx: click.Context, /, output: str | None, **given: Any) -> None:
    """Run a flow on one input or on many.

    The result goes to stdout as JSON, or as JSON Lines for --inputs; everything else goes to stderr.
    """
    at_most_one(**{name: given[name] for name in ("input", "input_json", "input_yaml", "inputs")})
    path = chosen_flow(given["flow"], given["flow_option"])
    flow = read_flow(path)
    warn_of(flow)
    tally = Tally(on_start=lambda run_id: say(f"run_id: {run_id}"))
    with ExitStack() as held:
        job = _job(flow, given, held)
        engine, place = storing_engine(
            given["config"],
            path,
            given["apps"],
            given["store"],
            secrets=given["secrets"],
            observers=[tally],
            group=_group(job),
        )
        results = held.enter_context(open_results(output, batch=job.is_batch))
        execution = Execution(
            partial(submit, job=job),
            engine,
            tally,
            results,
            place=place,
            is_batch=job.is_batch,
            shows_progress=job.is_batch and is_wanted(results_on_stdout=output is None),
            count=job.count,
        )
        code = anyio.run(execution.run)
    if execution.left_to_another is not None:
        tell(execution.left_to_another)
    say(execution.last_line())
    ctx.exit(code)


def _group(job: Job) -> str:
    """One of its own: no other engine takes the run over unless it is asked to."""
    key = key_of(job) or str(uuid4())
    return f"run:{key}" if job.key is not None else f"run:{key[:_GROUP_LENGTH]}"


def warn_of(flow: Flow) -> None:
    """Say what in the flow looks mistaken but does not keep it from running."""
    doubtful = [problem for problem in located(check(flow), flow) if problem.level == "error"]
    for line in problem_lines([*flow.warnings, *doubtful], as_warnings=True):
        say(line)


def _job(flow: Flow, given: dict[str, Any], held: ExitStack) -> Job:
    options = {
        "variables": _variables(flow, given),
        "overrides": given_overrides(**{name: given[name] for name in _named("overrides")}),
        "max_concurrency": given["max_concurrency"],
        "deadline_s": given["timeout"],
        "validation": given["validation"],
    }
    if given["inputs"] is not None:
        file = held.enter_context(InputFile(given["inputs"]))
        return Job(
            flow=flow,
            inputs=file.values(),
            is_batch=True,
            count=file.count,
            digest=file.digest,
            **_told(given, options),
        )
    names = ("input", "input_json", "input_yaml", "stdin_format")
    value = single_input(**{name: given[name] for name in names})
    digest = None if is_of_stdin(given["input"], given["input_json"], given["input_yaml"]) else digest_of(value)
    return Job(flow=flow, inputs=[value], is_batch=False, digest=lambda: digest, **_told(given, options))


def _told(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    return {"options": options, "key": given["key"], "is_new": given["new"], "is_detached": given["detach"]}


def _variables(flow: Flow, given: dict[str, Any]) -> dict[str, Any]:
    variables = given_variables(**{name: given[name] for name in _named("variables")})
    return environment_variables(flow, variables) if given["env_variables"] else variables


def _named(name: str) -> tuple[str, str, str]:
    return name, f"{name}_json", f"{name}_yaml"
