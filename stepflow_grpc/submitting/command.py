"""`stepflow submit FLOW`: one input or many, at a server."""

from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from typing import Any

import anyio
import click
from click.core import ParameterSource
from msgspec.structs import replace

from stepflow.cli.failure import CommandError, problem_lines, say, tell
from stepflow.cli.lines import InputFile
from stepflow.cli.options import (
    at_most_one,
    chosen_flow,
    concurrency_option,
    duration,
    examples,
    filled,
    flow_options,
    input_options,
    override_options,
    variable_options,
)
from stepflow.cli.progress import is_wanted
from stepflow.cli.results import open_results
from stepflow.cli.run import warn_of
from stepflow.cli.values import environment_variables, given_overrides, given_variables, single_input
from stepflow.clock import SystemClock
from stepflow.errors import InputInvalidError, Problem
from stepflow.execution.options import VALIDATIONS
from stepflow.flow.model import Flow
from stepflow.flow.read import read_flow
from stepflow.plan.checks import check
from stepflow.plan.variables import misspelt_variables
from stepflow.records import BlobId, Json
from stepflow_grpc.address import DEFAULT, VARIABLE
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.remote_run import RemoteRun
from stepflow_grpc.client.submission import RemoteOptions
from stepflow_grpc.flags import address_text
from stepflow_grpc.submitting.watching import Begin, Watch

_INPUTS = ("input", "input_json", "input_yaml", "inputs")


@click.command(
    "submit",
    epilog=examples(
        'stepflow submit flow.yaml --input \'{"text": "hi"}\'',
        "stepflow submit flow.yaml --inputs inputs.jsonl --output out.jsonl --url https://flows.example.org",
        "stepflow submit --follow last --output out.jsonl",
    ),
)
@flow_options
@input_options
@variable_options
@override_options
@concurrency_option
@click.option(
    "--url",
    envvar=VARIABLE,
    callback=address_text,
    metavar="URL",
    help=f"The server: host:port, or https://host:port for TLS. Not given: {VARIABLE}, else {DEFAULT}.",
)
@click.option(
    "--key",
    callback=filled,
    metavar="NAME",
    help="The run's name at the server: submitted again under it, the same run is given.",
)
@click.option("--new", is_flag=True, help="Start over, whatever run has the key.")
@click.option("--validation", type=click.Choice(VALIDATIONS), help="Whether inputs and variables must fit.")
@click.option("--timeout", callback=duration, metavar="TIME", help="End the run after so many seconds (or 5m, 2h).")
@click.option(
    "--wait-timeout", callback=duration, metavar="TIME", help="Wait so long for the results; the run goes on after it."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    callback=filled,
    metavar="FILE",
    help="Write results here; the file gets its name at the end.",
)
@click.option("--detach", is_flag=True, help="Don't wait for results: print the run's id.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Say as JSON what became of the run: last on stderr; on stdout with --detach.",
)
@click.option(
    "--follow",
    callback=filled,
    metavar="RUN",
    help="Instead of a flow: the results of a run, by its id, the id's beginning, or last.",
)
@click.option("--cancel", callback=filled, metavar="RUN", help="Instead of a flow: end a run.")
@click.pass_context
def command(ctx: click.Context, /, output: str | None, **given: Any) -> None:
    """Run a flow at a server, on one input or on many.

    The result goes to stdout as JSON, or as JSON Lines for --inputs; everything else goes to stderr. A batch begins
    once the server has all of its inputs. Ctrl-C stops watching: the run goes on.
    """
    at_most_one(**{name: given[name] for name in _INPUTS})
    at_most_one(output=output, detach=given["detach"] or None)
    client = Client(given["url"])
    if given["cancel"] is not None:
        _refuse_flow("--cancel", given)
        anyio.run(_cancel, client, given["cancel"], backend="asyncio")
        return
    with ExitStack() as held:
        begin, is_batch, count = _following(given) if given["follow"] is not None else _submitting(given, held)
        results = held.enter_context(open_results(output, batch=is_batch))
        watch = Watch(
            client,
            begin,
            results,
            SystemClock(),
            place=_place(ctx),
            is_batch=is_batch,
            is_detached=given["detach"],
            says_json=given["as_json"],
            shows_progress=is_batch and not given["detach"] and is_wanted(results_on_stdout=output is None),
            count=count,
            wait_s=given["wait_timeout"],
        )
        code = anyio.run(watch.run, backend="asyncio")
    if watch.handle is not None:
        tell(watch.handle)
    ctx.exit(code)


def _place(ctx: click.Context) -> str:
    """What has to be typed again to mean the same server."""
    if ctx.get_parameter_source("url") is not ParameterSource.COMMANDLINE:
        return ""
    return f" --url {ctx.params['url']}"


def _refuse_flow(option: str, given: dict[str, Any]) -> None:
    if given["flow"] is not None or given["flow_option"] is not None:
        raise click.UsageError(
            f"{option} is about a run that is there: leave the flow out", click.get_current_context()
        )


async def _cancel(client: Client, text: str) -> None:
    async with client:
        run = await client.get_run(await client.find_run(text))
        record = await run.record()
        if record.status.is_terminal:
            raise CommandError(f"run {run.id} has ended already: it is {record.status.value}")
        record = await run.cancel()
        say(f"run {run.id}: {record.status.value}")


def _following(given: dict[str, Any]) -> tuple[Begin, bool, int | None]:
    _refuse_flow("--follow", given)
    if given["detach"]:
        raise click.UsageError("--follow and --detach exclude each other", click.get_current_context())

    async def begin(client: Client) -> RemoteRun:
        return await client.get_run(await client.find_run(given["follow"]))

    return begin, True, None


def _submitting(given: dict[str, Any], held: ExitStack) -> tuple[Begin, bool, int | None]:
    """How the run is begun, whether it is a batch, and how many items it has where that can be told."""
    flow = read_flow(chosen_flow(given["flow"], given["flow_option"]))
    warn_of(flow)
    options = _options(flow, given)
    inputs: Iterable[Json] | AsyncIterator[Json]
    if given["inputs"] is not None:
        file = held.enter_context(InputFile(given["inputs"]))
        inputs, count = file.values(), file.count()
    else:
        value = single_input(**{name: given[name] for name in ("input", "input_json", "input_yaml", "stdin_format")})
        inputs, count = [value], 1

    async def begin(client: Client) -> RemoteRun:
        try:
            return await client.submit(await _stored(client, flow), inputs, **options)
        except InputInvalidError as error:
            raise InputInvalidError([_in_our_words(problem) for problem in error.problems]) from error

    return begin, given["inputs"] is not None, count


async def _stored(client: Client, flow: Flow) -> BlobId:
    """Keep the flow at the server; what only the server finds mistaken is said."""
    stored = await client.store_flow(flow)
    known = {(found.code, found.path) for found in check(flow)}
    doubtful = [each for each in stored.diagnostics if each.level == "error" and (each.code, each.path) not in known]
    for line in problem_lines(doubtful, as_warnings=True):
        say(line)
    return stored.id


def _in_our_words(problem: Problem) -> Problem:
    return replace(problem, message=problem.message.replace("new=True", "--new"))


def _options(flow: Flow, given: dict[str, Any]) -> RemoteOptions:
    variables = given_variables(**{name: given[name] for name in ("variables", "variables_json", "variables_yaml")})
    if given["env_variables"]:
        variables = environment_variables(flow, variables)
    for line in problem_lines(misspelt_variables(flow, variables), as_warnings=True):
        say(line)
    return {
        "variables": variables,
        "overrides": given_overrides(
            **{name: given[name] for name in ("overrides", "overrides_json", "overrides_yaml")}
        ),
        "max_concurrency": given["max_concurrency"],
        "key": given["key"],
        "new": given["new"],
        "deadline_s": given["timeout"],
        "validation": given["validation"],
    }
