"""`stepflow serve`: an engine behind a port, until it is told to stop."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec
from click.core import ParameterSource

from stepflow.cli.apps import load_apps
from stepflow.cli.failure import say
from stepflow.cli.impatience import INTERRUPTED
from stepflow.cli.options import app_option, duration, examples, filled
from stepflow.config import open_engine
from stepflow.config.model import Config, PoolSettings
from stepflow.config.read import load_config
from stepflow.config.search import find_config
from stepflow.engine import Engine
from stepflow.errors import ConfigError, Problem
from stepflow.execution.sealing import SECRETS
from stepflow.records import Json
from stepflow_grpc.pools.board import table
from stepflow_grpc.pools.pool import Pool, PoolError, read_pool
from stepflow_grpc.pools.speaker import Speaker
from stepflow_grpc.server import DRAIN_S, Server
from stepflow_grpc.serving.listening import listening_options, read_listening
from stepflow_grpc.serving.log_flags import heed_log_flags, log_options
from stepflow_grpc.serving.spoken_logs import spoken_logs

_STDERR = 2

_FORGETS = "runs are kept in memory and end with this server: --store runs.db keeps them, as does a PostgreSQL URL"

LAST_WORDS_S = 1.0
"""How long the process waits at its end for somebody to read what it said."""


def _pools(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> tuple[Pool, ...]:
    try:
        return tuple(read_pool(text, Path.cwd()) for text in given)
    except PoolError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _grace(ctx: click.Context, param: click.Parameter, value: str) -> float:
    return 0.0 if value == "0" else duration(ctx, param, value) or 0.0


@click.command(
    "serve",
    epilog=examples(
        "stepflow serve --config config.yml --pool cpu=components:app:2",
        "stepflow serve --app components:app --store runs.db --port 0",
    ),
)
@app_option
@click.option(
    "--config",
    "-c",
    type=click.Path(),
    callback=filled,
    envvar="STEPFLOW_CONFIG",
    metavar="FILE",
    help="The configuration. Not given: stepflow-config.yml here; else builtins only.",
)
@click.option(
    "--pool",
    "pools",
    metavar="QUEUE=MODULE:REGISTRY[:N]",
    multiple=True,
    callback=_pools,
    help="Start N workers of a queue too, one if no number is given; repeat it for more queues. Takes the place of the "
    "pool that the configuration has for the queue.",
)
@click.option("--config-stdin", is_flag=True, help="Read the configuration as JSON from stdin, to its end.")
@click.option(
    "--store",
    callback=filled,
    envvar="STEPFLOW_STORE",
    metavar="PATH|URL",
    help="Where runs are kept. Not given: as the configuration says, else in memory, where they end with the server.",
)
@click.option(
    "--secrets",
    type=click.Choice(("strict", *SECRETS)),
    help="Whether a durable store may keep secrets in clear that clients pass, as long as STEPFLOW_SECRET_KEY is not "
    "set: strict and refuse are no. Not given: as the configuration says, else warn.",
)
@click.option(
    "--grace",
    callback=_grace,
    default=f"{DRAIN_S:g}s",
    show_default=True,
    envvar="STEPFLOW_SHUTDOWN_GRACE_SECS",
    metavar="TIME",
    help="How long workers that the server started, and those of the reference system, may take for the tasks that "
    "they are at, once it is told to stop.",
)
@listening_options
@log_options
@click.option(
    "--orchestrator-id",
    callback=filled,
    envvar="STEPFLOW_ORCHESTRATOR_ID",
    metavar="NAME",
    help="The engine's name, equal on every start: your word that no other of this name lives. Not given: a new one "
    "each time, but for containers, which are named by HOSTNAME.",
)
def command(
    config: str | None,
    apps: tuple[str, ...],
    pools: tuple[Pool, ...],
    config_stdin: bool,
    store: str | None,
    secrets: str | None,
    orchestrator_id: str | None,
    grace: float,
    **flags: Any,
) -> None:
    """Serve flows and runs to clients, by gRPC and HTTP on one port.

    Components are those of --app, of the configuration, and of workers that pull from its queues. Once calls are taken,
    stdout gets one line, {"port": N}, and stderr a table of the queues and who serves them. SIGTERM and Ctrl-C stop it:
    first the workers that it started, then calls under way, within 5 s together unless --grace says more. Runs that are
    kept in a store go on with the next engine that opens it. A second Ctrl-C ends it at once.
    """
    ctx = click.get_current_context()
    if config_stdin and ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--config and --config-stdin exclude each other", ctx)
    flags = heed_log_flags(ctx, flags)
    settings = _settings(config, from_stdin=config_stdin)
    if settings.blobs.threshold is not None:  # for the workers that are started here
        os.environ.setdefault("STEPFLOW_BLOB_THRESHOLD_BYTES", str(settings.blobs.threshold))
    engine = _engine(settings, apps, store, secrets, orchestrator_id or _container_name(os.environ))
    listening = read_listening(settings.server, **flags)
    speaker = Speaker(_write)
    server = partial(Server, pools=_all_pools(settings, pools), drain_s=grace, say=speaker, **listening.options())
    with spoken_logs(speaker):
        anyio.run(_serve, engine, server, backend="asyncio")
        speaker.close(LAST_WORDS_S)


def _all_pools(settings: Config, given: Sequence[Pool]) -> list[Pool]:
    """The pools of the configuration, but for the queues that are given others, and those."""
    written = [_pool(pool, settings.working_directory) for pool in settings.pools]
    return [*(pool for pool in written if pool.queue not in {each.queue for each in given}), *given]


def _pool(settings: PoolSettings, directory: Path) -> Pool:
    return Pool(
        settings.queue,
        settings.app,
        command=() if settings.command is None else (settings.command, *settings.args),
        replicas=settings.replicas,
        max_concurrent=settings.max_concurrent,
        env=settings.env,
        directory=directory,
    )


def _settings(config: str | None, *, from_stdin: bool) -> Config:
    if not from_stdin:
        return load_config(config if config is not None else find_config(None, Path.cwd()), environ=os.environ)
    try:
        document: Json = msgspec.json.decode(sys.stdin.buffer.read())
    except msgspec.DecodeError as error:
        raise ConfigError(
            [Problem(message=f"the configuration on stdin is no JSON: {error}", source="stdin")]
        ) from None
    if not isinstance(document, dict):
        raise ConfigError([Problem(message="the configuration on stdin is no JSON object", source="stdin")])
    return load_config(document, environ=os.environ)


def _engine(settings: Config, apps: Sequence[str], store: str | None, secrets: str | None, name: str | None) -> Engine:
    location = store if store is not None else settings.storage.url
    mode = "refuse" if secrets == "strict" else secrets or settings.secrets or "warn"
    return open_engine(settings, components=load_apps(apps), store=location, name=name, secrets=mode)


def _container_name(environ: Mapping[str, str]) -> str | None:
    """Inside a container HOSTNAME names it, and its successor of the same name only comes when it is gone."""
    is_container = "KUBERNETES_SERVICE_HOST" in environ or Path("/.dockerenv").exists()
    return environ.get("HOSTNAME") if is_container else None


def _collect_seldom() -> None:
    """Look for cycles of garbage less often: a fifth of a busy queue's time went there, and hardly any are made."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _serve(engine: Engine, make: Callable[..., Server]) -> None:
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(INTERRUPTED)  # workers of pools are ended all the same: see `stepflow_grpc.pools.guard`
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    _collect_seldom()
    url = os.environ.get("STEPFLOW_ORCHESTRATOR_URL")
    async with engine, make(engine, url=url) as server:
        sys.stdout.write(_announcement(server))
        sys.stdout.flush()
        say(f"serving on {_shown(server)}; Ctrl-C stops it")
        for line in table(server.queues(), server.address):
            say(line)
        for name, reason in engine.failed_plugins().items():
            say(f"plugin {name!r} can't be used, and steps that are routed to it fail: {reason}")
        if not engine.backend.is_durable:
            say(_FORGETS)
        await stopped.wait()
        server.tell("stopping")


def _write(text: str) -> None:
    """Past Python's own stream, whose lock a write that nobody reads would keep until the process can't end."""
    left = f"{text}\n".encode("utf-8", "replace")
    while left:
        left = left[os.write(_STDERR, left) :]


def _announcement(server: Server) -> str:
    """The line by which launchers find the port."""
    ports = {"port": server.port, **({} if server.http_port is None else {"httpPort": server.http_port})}
    return msgspec.json.encode(ports).decode() + "\n"


def _shown(server: Server) -> str:
    http = "" if server.http_port is None else f", HTTP on {server.host}:{server.http_port}"
    return f"{server.host}:{server.port}{http}"


def server(arguments: Sequence[str] | None = None) -> None:
    """`stepflow-server`: takes the flags of the reference server's binary."""
    from stepflow.cli.main import main

    main(["serve", *(sys.argv[1:] if arguments is None else arguments)])
