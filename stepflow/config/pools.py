"""The pools of a configuration: workers that a server starts itself."""

from typing import Literal

from stepflow.config.model import PoolSettings
from stepflow.config.plugin_types import check_app
from stepflow.config.section import Section


def read_pools(section: Section | None) -> tuple[PoolSettings, ...]:
    """The pools in order, by the queue that each serves."""
    if section is None:
        return ()
    found = (_read_pool(queue, section) for queue in section.keys)
    return tuple(pool for pool in found if pool is not None)


def _read_pool(queue: str, pools: Section) -> PoolSettings | None:
    section = pools.section(queue)
    if section is None:
        pools.problems.add((*pools.path, queue), f"pool {queue} has to be an object with the key app or command")
        return None
    if not queue:
        section.problems.add(section.path, "the name of a pool is that of its queue, and must not be empty")
    app, command = section.text("app"), section.text("command")
    check_app(section, app)
    if (app is None) == (command is None):
        section.problems.add(
            section.path,
            f"pool {queue} needs either app or command",
            'write app: "module:registry" for workers of ours, command: program for others',
        )
    settings = PoolSettings(
        queue=queue,
        app=app,
        command=command,
        args=section.texts("args"),
        env=section.text_map("env"),
        replicas=section.integer("replicas", 1, least=1),
        max_concurrent=_slots(section),
    )
    if settings.args and command is None:
        section.problems.warn((*section.path, "args"), "args has no effect without command")
    section.warn_unknown()
    return settings


def _slots(section: Section) -> int | Literal["auto"] | None:
    given = section.get("maxConcurrent")
    if given == "auto":
        return "auto"
    return None if given is None else section.integer("maxConcurrent", 1, least=1)
