"""The tasks that perform steps: each takes a ready step, performs it, and takes the next.

They are tasks of the engine that are shared by all runs; there is no task per step.
"""

from collections import deque
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from stepflow.execution.live import LiveRun
from stepflow.execution.term import Term
from stepflow.execution.tree import Entry, Tree

FEED_BELOW = 128
"""A streamed run asks for more inputs when fewer than these wait to begin."""


TURN = 64
"""Steps after which the event loop gets a turn, though none of them waited: calls and heartbeats may have come."""


class Runner:
    """One task that performs steps, and the step it is busy with."""

    __slots__ = ("is_cancelled", "is_spent", "item", "run", "scope", "step")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.run: LiveRun | None = None
        self.item = self.step = 0
        self.is_cancelled = False
        self.is_spent = False  # a component cancelled the very task that ran it

    def cancel(self) -> None:
        self.is_cancelled = True
        self.scope.cancel()


class Runners:
    """As many as there is work for at a time. One without work waits until it is woken.

    Args:
        perform: a step of an item, to its end.
        settle: an item was opened that has ended already.
        stuck: nothing of a tree is being performed, and nothing can be taken from it.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        term: Term,
        *,
        perform: Callable[[Runner, LiveRun, int, int], Awaitable[None]],
        settle: Callable[[LiveRun], None],
        stuck: Callable[[Tree[LiveRun]], None],
    ) -> None:
        self._tasks = tasks
        self._term = term
        self._perform = perform
        self._settle = settle
        self._stuck = stuck
        self._runnable: deque[Tree[LiveRun]] = deque()
        self._runners: dict[Runner, None] = {}
        self._event = type(anyio.Event())  # that of the backend that runs, which need not be looked for each time
        self._idle: list[anyio.Event] = []
        self._waking = 0  # runners that were woken and have not looked for work yet
        self._left = TURN  # steps that wait for nothing before the loop's next turn
        self._taken = 0  # steps so far
        self._is_turning = False  # one of them waits for it

    def kick(self, tree: Tree[LiveRun]) -> None:
        """Look whether something may be taken from this tree again."""
        if not tree.is_listed and tree.free > 0 and not tree.is_held:
            if not tree.has_ready and tree.admitting() is None:
                if not tree.performing:
                    self._stuck(tree)
                return
            tree.is_listed = True
            self._runnable.append(tree)
        if self._runnable:
            self._wake_one()

    def kick_all(self, tree: Tree[LiveRun]) -> None:
        """The same for as many steps of it as may begin at once, so that they share a commit, and frames to workers."""
        self.kick(tree)
        if not tree.is_held:
            self._wake_all(tree)

    def busy_with(self, run: LiveRun, item: int, step: int) -> Runner | None:
        """Who is at this step now; None: nobody."""
        return next((each for each in self._runners if (each.run, each.item, each.step) == (run, item, step)), None)

    def cancel(self, run: LiveRun) -> None:
        """Stop performing steps of a run."""
        for runner in self._runners:
            if runner.run is run:
                runner.cancel()

    def _wake_one(self) -> None:
        if not self._waking:
            self._wake()

    def _wake_all(self, tree: Tree[LiveRun]) -> None:
        """As many as find a step in this tree while all the others wait for theirs."""
        for _ in range(min(tree.free, tree.startable()) - self._waking):
            self._wake()

    def _wake(self) -> None:
        self._waking += 1
        if self._idle:
            self._idle.pop().set()
        else:
            self._tasks.start_soon(self._run_steps)

    async def _run_steps(self) -> None:
        """A runner's life: take a step, perform it, take the next; wait where there is none."""
        runner = Runner()
        self._runners[runner] = None
        self._waking -= 1
        while not runner.is_spent:
            with runner.scope:
                await self._take_and_perform(runner)
            runner.run = None
            runner.scope = anyio.CancelScope()
            runner.is_cancelled = False
        del self._runners[runner]

    async def _take_and_perform(self, runner: Runner) -> None:
        while not (runner.is_cancelled or runner.is_spent):
            if self._left <= 0 and not self._is_turning:
                await self._give_turn()
            taken = None if self._is_turning else self._take()
            if taken is None:
                await self._wait_for_work()
                continue
            item, step, _, run = taken
            tree = run.tree
            if self._runnable and (not self._idle or self._has_more(tree)):
                self._wake_one()
                if tree.free > self._waking and run.leaves_process(step):
                    self._wake_all(tree)
            tree.performing += 1
            number = self._taken = self._taken + 1
            try:
                if self._term.until is not None:
                    await self._term.be_sure()
                await self._perform(runner, run, item, step)
            finally:
                tree.performing -= 1
                tree.give_back(run)
                if self._taken == number:
                    self._left -= 1  # it waited for nothing: others would have begun meanwhile
                if not tree.is_listed:
                    self.kick(tree)

    async def _give_turn(self) -> None:
        """Let the event loop do what else there is. Other runners wait for work meanwhile: this one goes on with it."""
        self._is_turning = True
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            self._is_turning, self._left = False, TURN

    def _has_more(self, tree: Tree[LiveRun]) -> bool:
        """Whether another runner may find something, after a step was taken from this tree."""
        return len(self._runnable) > 1 or tree.has_ready or tree.admitting() is not None

    async def _wait_for_work(self) -> None:
        event = self._event()
        self._idle.append(event)
        try:
            await event.wait()
        finally:
            self._waking = max(0, self._waking - 1)

    def _take(self) -> Entry[LiveRun] | None:
        runnable = self._runnable
        while runnable:
            tree = runnable[0]
            if tree.free > 0:
                taken = tree.take() or self._open_item(tree)
                if taken is not None:
                    if len(runnable) > 1:
                        runnable.rotate(-1)
                    return taken
            runnable.popleft()
            tree.is_listed = False
            if not tree.performing:
                self._stuck(tree)
        return None

    def _open_item(self, tree: Tree[LiveRun]) -> Entry[LiveRun] | None:
        """Begin the next item, and take its first step. Items begin only when no open one has a step to start."""
        while (run := tree.admitting()) is not None:
            state = run.state
            held = len(state.ready)
            state.open_next()
            if run.is_fed and state.admitted - state.opened < FEED_BELOW:
                run.hungry.set()
            ready = state.ready[held:]
            del state.ready[held:]
            if state.closing:
                self._settle(run)
            if ready:
                tree.push(run, ready)
                taken = tree.take()
                if taken is not None:
                    return taken
        return None
