"""`stepflow worker`: components behind a queue, until it is told to stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import click
import msgspec

from stepflow.cli.apps import load_app
from stepflow.cli.options import duration, examples, filled
from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.protocols import Clock
from stepflow_grpc.address import Address
from stepflow_grpc.credentials import read_credentials
from stepflow_grpc.flags import address_text
from stepflow_grpc.worker.blocking import serve_until_told
from stepflow_grpc.worker.readiness import LOOK_S, ReadyFile, health_port
from stepflow_grpc.worker.worker import QUEUE, SLOTS, Worker


def _grace(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return 0.0 if value == "0" else duration(ctx, param, value)


def _slots(ctx: click.Context, param: click.Parameter, value: str) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is no number of tasks: write 1 or more, or auto", ctx, param)
    return int(value)


class Probes(msgspec.Struct, frozen=True):
    """Where it is told whether the worker is ready."""

    file: str | None
    host: str
    port: int | None


@click.command(
    "worker",
    epilog=examples(
        "stepflow worker components:app --queue gpu",
        "stepflow worker components:app --queue gpu --url orchestrator.example:7840 --max-concurrent 1",
        "STEPFLOW_APP=components:app STEPFLOW_QUEUE_NAME=gpu stepflow worker --ready-file /tmp/ready",
    ),
)
@click.argument("app", metavar="MODULE:REGISTRY", envvar="STEPFLOW_APP", required=False)
@click.option("--app", "app_option", metavar="MODULE:REGISTRY", help="The same, as other commands take it.")
@click.option(
    "--queue",
    "--queue-name",
    "-q",
    "queue",
    callback=filled,
    default=QUEUE,
    show_default=True,
    envvar="STEPFLOW_QUEUE_NAME",
    help="The queue to pull tasks from.",
)
@click.option(
    "--tasks-url",
    "--url",
    "url",
    callback=address_text,
    envvar=["STEPFLOW_TASKS_URL", "STEPFLOW_URL"],
    metavar="HOST:PORT",
    help="The orchestrators: each address behind the name is connected. https://HOST:PORT speaks TLS. Not given: "
    "127.0.0.1:7840.",
)
@click.option(
    "--max-concurrent",
    "--max-concurrency",
    "-n",
    "max_concurrent",
    callback=_slots,
    default=str(SLOTS),
    show_default=True,
    envvar="STEPFLOW_MAX_CONCURRENT",
    metavar="N|auto",
    help="Most tasks at a time; auto: as many as get the most done, found out as it goes.",
)
@click.option(
    "--worker-id",
    callback=filled,
    envvar="STEPFLOW_WORKER_ID",
    metavar="NAME",
    help="Not given: host, process, and chance.",
)
@click.option(
    "--blob-url",
    callback=address_text,
    envvar="STEPFLOW_BLOB_URL",
    metavar="HOST:PORT",
    help="Not given: the orchestrators.",
)
@click.option(
    "--blob-threshold",
    type=click.IntRange(min=0),
    default=0,
    envvar="STEPFLOW_BLOB_THRESHOLD_BYTES",
    metavar="BYTES",
    help="Above 0: fields of outputs that take more become blobs, and references to blobs in inputs are resolved.",
)
@click.option(
    "--grace",
    callback=_grace,
    envvar="STEPFLOW_SHUTDOWN_GRACE_SECS",
    metavar="TIME",
    help="How long what is at work may take once SIGTERM or Ctrl-C came; then it goes back to the queue. Not given: as "
    "long as it takes.",
)
@click.option(
    "--udf",
    is_flag=True,
    envvar="STEPFLOW_UDF",
    help="Serve the component udf too, whose functions come as text in blobs: whoever may submit runs can then run "
    "code here. No registry is needed.",
)
@click.option(
    "--ready-file",
    callback=filled,
    metavar="FILE",
    envvar="STEPFLOW_READY_FILE",
    help="Exists while the worker is ready.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    envvar="STEPFLOW_HEALTH_PORT",
    help="Answers GET /ready (200 or 503) and GET /health; 0 takes a free port.",
)
@click.option(
    "--health-host",
    callback=filled,
    default="0.0.0.0",
    show_default=True,
    envvar="STEPFLOW_HEALTH_HOST",
    help="The address where it is answered.",
)
@click.option("--transport", type=click.Choice(("grpc",)), default="grpc", envvar="STEPFLOW_TRANSPORT", hidden=True)
def command(
    app: str | None,
    app_option: str | None,
    queue: str,
    url: str | None,
    max_concurrent: int | Literal["auto"],
    worker_id: str | None,
    blob_url: str | None,
    blob_threshold: int,
    grace: float | None,
    udf: bool,
    ready_file: str | None,
    health_port: int | None,
    health_host: str,
    transport: str,
) -> None:
    """Do tasks of a queue with the components of a registry.

    The current directory can be imported from. Ready means that the registry's lifespan is loaded and an orchestrator
    is connected; one that is away is tried again for ever. SIGTERM and Ctrl-C drain: nothing more is taken, what is at
    work is finished, its answers are delivered, and the exit code is 0; a second one ends at once. Certificates and a
    token come from STEPFLOW_TLS_CA, STEPFLOW_TLS_CERT, STEPFLOW_TLS_KEY, STEPFLOW_TOKEN and STEPFLOW_TOKEN_FILE.
    """
    worker = Worker(
        _registry(app, app_option, is_needed=not udf),
        url=url,
        queue=queue,
        max_concurrent=max_concurrent,
        worker_id=worker_id,
        blob_url=blob_url,
        blob_threshold=blob_threshold,
        grace_s=grace,
        udf=udf,
        credentials=read_credentials(),
    )
    asyncio.run(_serve(worker, Probes(ready_file, health_host, health_port)))


def _registry(app: str | None, app_option: str | None, *, is_needed: bool) -> Components:
    if app is not None and app_option is not None and app != app_option:
        raise click.UsageError(f"two registries are given: {app} and --app {app_option}", click.get_current_context())
    place = app or app_option
    if place is None and not is_needed:
        return Components()
    if place is None:
        text = "name the registry: MODULE:REGISTRY, such as components:app, or set STEPFLOW_APP"
        raise click.UsageError(text, click.get_current_context())
    return load_app(place)


async def _serve(worker: Worker, probes: Probes) -> None:
    async with _probed(worker, probes):
        click.echo(_begun(worker), err=True)
        await serve_until_told(worker, told=lambda: click.echo(_ending(worker), err=True))


def _begun(worker: Worker) -> str:
    slots = "1 slot" if worker.slots == 1 else f"{worker.slots} slots"
    slots = f"{slots} at first" if worker.is_tuned else slots
    return f"worker {worker.id}: queue {worker.queue} of {worker.address}, {slots}; Ctrl-C ends it"


def _ending(worker: Worker) -> str:
    if not worker.running:
        return "stopping"
    return f"stopping: {worker.running} at work are finished first; Ctrl-C again ends at once"


async def _tell_connections(worker: Worker, clock: Clock) -> None:
    """Say when an orchestrator is connected; why one is not, the log says. Until it is cancelled."""
    known: set[Address] = set()
    while True:
        now = set(worker.connected)
        for address in sorted(now - known, key=str):
            click.echo(f"connected to {address}", err=True)
        known = now
        await clock.sleep(LOOK_S)


@asynccontextmanager
async def _probed(worker: Worker, probes: Probes) -> AsyncIterator[None]:
    """Tell whoever asks, and whoever watches, whether the worker is ready."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        if probes.port is not None:
            port = await stack.enter_async_context(health_port(probes.host, probes.port, worker, clock))
            click.echo(f"readiness is told on port {port}", err=True)
        telling = [asyncio.create_task(_tell_connections(worker, clock))]
        if probes.file is not None:
            telling.append(asyncio.create_task(ReadyFile(Path(probes.file)).keep(worker, clock)))
        try:
            yield
        finally:
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)
