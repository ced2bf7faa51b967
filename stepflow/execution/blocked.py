"""Runs whose secrets can't be had here: looked at again from time to time, since these may have come meanwhile."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.patience import patiently
from stepflow.execution.sealing import Vault
from stepflow.execution.tree import Tree
from stepflow.protocols import Clock
from stepflow.records import RunId

LOOK_S = 5.0
"""How often to look whether the environment has changed."""

Read: TypeAlias = Callable[[Tree[LiveRun]], Awaitable[dict[RunId, LiveRun] | None]]


class BlockedRuns:
    """Watches the environment for as long as there is a run that waits for it.

    Args:
        read: reads a tree's journals anew; None: that is not possible.
        begin: hands runs that were read to the executor, with this engine's name.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        clock: Clock,
        tasks: TaskGroup,
        read: Read,
        begin: Callable[[dict[RunId, LiveRun], str], None],
    ) -> None:
        self._executor = executor
        self._clock = clock
        self._tasks = tasks
        self._read = read
        self._begin = begin
        self._asked = anyio.Event()
        self._seen = {} if executor.vault is None else executor.vault.renewed({})
        self._name = ""
        self._is_watching = False

    def watch(self, name: str) -> None:
        """There is such a run now, of this engine."""
        vault, self._name = self._executor.vault, name
        if not self._is_watching and vault is not None:
            self._is_watching = True
            self._tasks.start_soon(self._watch, vault)

    def look_soon(self) -> None:
        """Somebody wants such a run to go on."""
        self._asked.set()

    async def _watch(self, vault: Vault) -> None:
        while self._trees():
            with self._clock.timeout(LOOK_S):
                await self._asked.wait()
            self._asked = anyio.Event()
            seen, self._seen = self._seen, vault.renewed(self._seen)
            if seen != self._seen:
                for tree in self._trees():
                    await self._look(tree)
        self._is_watching = False

    def _trees(self) -> list[Tree[LiveRun]]:
        return [tree for tree in self._executor.trees.values() if any(run.blocked for run in tree.runs.values())]

    async def _look(self, tree: Tree[LiveRun]) -> None:
        """Put the runs of a tree, read anew, in the place of those that wait, where nothing of them is missing now."""
        while True:
            for run in list(tree.runs.values()):
                await self._executor.durable(run)
            read = await patiently(self._clock, lambda: self._read(tree))
            if not read or tree not in self._executor.trees.values():
                return
            now = {run.id: run for run in tree.runs.values()}
            if read.keys() == now.keys() and all(read[id].stands_where(run) for id, run in now.items()):
                break
        if all(run.blocked is None for run in read.values()):
            self._executor.hand_over(tree)
            self._begin(read, self._name)
            return
        for id, run in now.items():
            reason = read[id].blocked
            if reason is not None and reason != run.blocked:
                self._executor.note_blocked(run, reason)
