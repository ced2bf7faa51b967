"""The plugin that calls registered functions. Workers run exactly this."""

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup

from stepflow.components import Component, Components
from stepflow.plugins.batching import Collector
from stepflow.plugins.calling import Means, Perform, batch_performer, performer
from stepflow.plugins.failure import only_leaf
from stepflow.plugins.lifespan import entered
from stepflow.plugins.processes import ProcessPool, process_batch_performer, process_performer
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Task
from stepflow.routing.trie import PathTrie

THREADS = 40
"""How many plain functions run at a time unless told otherwise."""


class FunctionsPlugin:
    """Answers for the components of a registry, in this process or in processes of its own.

    `async def` runs on the event loop, each call in a copy of the context; `def` in a worker thread; what was
    registered with `process=True` in a spawned process. A place under a component's `max_concurrency`, a thread or a
    process is waited for without a slot of the engine.

    A cancelled coroutine may clean up for five seconds; a cancelled thread keeps its place until it ends, and its
    answer is dropped; a cancelled process is killed.
    """

    def __init__(self, registry: Components, *, threads: int | None = None, processes: int | None = None) -> None:
        """
        Args:
            threads: how many plain functions run at a time; absent: 40.
            processes: how many processes run at a time; absent: one for each processor.

        Raises:
            ConfigError: the type hint of an input cannot be used.
        """
        registry.infos()
        self._registry = registry
        self._threads = threads or THREADS
        self._processes = processes
        self._opened: _Opened | None = None
        self._performs: dict[str, Perform] = {}
        self._paths: tuple[Sequence[ComponentInfo], PathTrie[str]] = ((), PathTrie())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        if self._opened is not None:
            raise RuntimeError("this FunctionsPlugin is open already; make one for each engine")
        registry = self._registry
        runs_here = not registry.all() or any(not component.process for component in registry.all())
        async with entered(registry if runs_here else Components()) as state:
            try:
                async with anyio.create_task_group() as tasks:
                    self._opened = _Opened(registry, Means(state, tasks, self._threads), tasks, self._processes)
                    try:
                        yield
                    finally:
                        await self._close(self._opened, tasks)
            except BaseExceptionGroup as group:
                raise only_leaf(group) from None

    async def _close(self, opened: "_Opened", tasks: TaskGroup) -> None:
        self._opened = None
        self._performs.clear()
        tasks.cancel_scope.cancel()
        await opened.close()

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return self._registry.infos()

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """They are always known."""

    def perform(self, task: Task, host: Host) -> Coroutine[Any, Any, Outcome]:
        perform = self._performs.get(task.target)
        return self._perform_first(task, host) if perform is None else perform(task, host)

    async def _perform_first(self, task: Task, host: Host) -> Outcome:
        """Find a component that was not called before, or that is called by its path."""
        if self._opened is None:
            raise RuntimeError("this FunctionsPlugin is not open")
        component = self._registry.get(task.target)
        if component is None:
            infos = self._registry.infos()
            if infos is not self._paths[0]:
                self._paths = infos, _trie(infos)
            match = self._paths[1].match(task.target)
            if match is None:
                known = ", ".join(info.path for info in infos) or "none"
                return Failed(
                    ErrorCode.COMPONENT_NOT_FOUND, f"there is no component {task.target!r}; there are: {known}"
                )
            component = self._registry.get(match.value)
            assert component is not None
            task = msgspec.structs.replace(task, path_params={**match.params, **task.path_params})
        perform = self._performs.get(component.id)
        if perform is None:
            perform = self._performs[component.id] = self._opened.perform_of(component)
        return await perform(task, host)


class _Opened:
    """What a plugin has while it is open."""

    def __init__(self, registry: Components, means: Means, tasks: TaskGroup, processes: int | None) -> None:
        self._registry = registry
        self._means = means
        self._tasks = tasks
        self._processes = processes
        self._pool: ProcessPool | None = None

    def perform_of(self, component: Component) -> Perform:
        if component.batch is None:
            if component.process:
                return process_performer(component, self._used_pool())
            return performer(component, self._means)
        if component.process:
            perform_all = process_batch_performer(component, self._used_pool())
        else:
            perform_all = batch_performer(component, self._means)
        return Collector(component.batch, perform_all, self._tasks).perform

    def _used_pool(self) -> ProcessPool:
        if self._pool is None:
            self._pool = ProcessPool(self._registry, self._processes)
        return self._pool

    async def close(self) -> None:
        self._means.threads.close()
        if self._pool is not None:
            await self._pool.close()


def _trie(infos: Sequence[ComponentInfo]) -> PathTrie[str]:
    trie: PathTrie[str] = PathTrie()
    for info in infos:
        trie.add(info.path, info.id)
    return trie
