"""Who stands at each seam. Whoever writes a backend reads this, `records` and `errors`, and nothing else."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from stepflow.records import (
    JOURNAL_FORMAT,
    Answer,
    Blob,
    BlobId,
    BlobType,
    ComponentInfo,
    EngineRecord,
    Entries,
    ItemResult,
    Json,
    Lease,
    Message,
    Offer,
    Outcome,
    Ownership,
    ParentLink,
    RunId,
    RunRecord,
    RunStatus,
    Task,
    TaskId,
    Verdict,
    Write,
)

PAGE = 1_000
"""Rows that a question is answered with at most, unless it says otherwise."""


class Clock(Protocol):
    """Time. Core code reads it and waits for it only here, so that a test can turn it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, on this clock."""
        ...

    def timeout(self, seconds: float, *, shield: bool = False) -> "AbstractContextManager[Deadline, bool]":
        """A scope that is cancelled when the time is over, without raising."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """While inside, work goes on that the clock can't see (a thread, a process, a socket): a turned clock waits."""
        ...


class Deadline(Protocol):
    """What `Clock.timeout` gives: whether the time ran out."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope was left because the time was over."""
        ...


class Chance(Protocol):
    """Everything that is drawn: jitter and ids. A seeded one makes a run repeat exactly."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def run_id(self, now: float) -> RunId:
        """A new UUID version 7 for a time in seconds since the epoch."""
        ...


class Store(Protocol):
    """The journal of every run. A run's state is whatever its journal says; nothing else is trusted after a crash."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        """Make every write durable in one transaction; one verdict a write, in order.

        A write is stored whole or not at all, and one run's refusal does not touch the others. A write that was
        stored before (same run, same `first`) is answered `Committed` and changes nothing.

        Refused as `LeaseLost`: the run's owner and epoch are not those of the lease, or the lease's owner is an
        engine that was fenced. Refused as `KeyTaken`: a first write with a key, where the newest root run with that
        key is another than `Write.supersedes`. Who waits for the end of a run or for a message to an engine is woken
        after the commit.

        Raises:
            StoreUnavailableError: it may or may not have written; repeat the same writes.
        """
        ...

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        """The packed rows with an entry beyond position `after`, oldest first, at most `limit`; empty: no more.

        The first row may begin at or before `after`. Rows that a checkpoint replaced may be gone; the first row of a
        run and rows that hold inputs of unfinished items never are.
        """
        ...

    async def history(
        self, run_id: RunId, *, after: int = 0, limit: int = PAGE, item: int | None = None
    ) -> Sequence[Entries]:
        """The same with the rows that a checkpoint replaced, as far as they are still kept; no recovery needs them.

        With `item`, only the rows whose items include it.
        """
        ...


class Runs(Protocol):
    """Questions about runs. None of these is asked on the hot path."""

    async def get(self, run_id: RunId) -> RunRecord | None:
        """The run's row; None: no run has this id."""
        ...

    async def find(self, prefix: str) -> Sequence[RunId]:
        """Ids of at most two root runs that begin so; `last` gives the newest root run."""
        ...

    async def find_child(self, parent: ParentLink) -> RunRecord | None:
        """The newest sub-run with this link: run, item, step and key."""
        ...

    async def find_key(self, key: str) -> RunRecord | None:
        """The newest root run that was submitted with this key."""
        ...

    async def list(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        root_id: RunId | None = None,
        parent_id: RunId | None = None,
        roots_only: bool = False,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        """Newest first, at most `limit`; `before` is the last id of the page before this one."""
        ...

    async def results(self, run_id: RunId, *, after: int = -1, limit: int = PAGE) -> Sequence[ItemResult]:
        """The results stored so far of items beyond `after`, in item order, at most `limit`; empty: no more."""
        ...

    async def completed(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[tuple[int, ItemResult]]:
        """The results stored so far in the order they came, each with its place in that order, from 1 on.

        Those beyond place `after`, at most `limit`; empty: no more.
        """
        ...

    async def forget_results(self, run_id: RunId, *, through: int) -> None:
        """Results up to this item were delivered and will not be asked for again. A durable store keeps them."""
        ...


class Blobs(Protocol):
    """Content by its id. Storing the same bytes again changes nothing: the first type wins."""

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        """Keep the bytes, and give their id, which is `stepflow.records.blob_id(content)`."""
        ...

    async def get(self, blob_id: BlobId) -> Blob | None:
        """The blob of this id, in lower case; None: there is none."""
        ...


class Owners(Protocol):
    """Which engine may write to which run. An engine makes itself known, is heard of, and takes over what others left.

    An engine that is not heard of for its time to live, by the store's own clock, is dead: it may be fenced, which
    means that nothing it writes is taken any more, whatever it believes.
    """

    async def enter(self, engine: EngineRecord, *, ttl_s: float) -> EngineRecord:
        """Make an engine known, and give its row. It may be dead after `ttl_s` seconds without `beat`.

        Engines of the same name are fenced at once: the operator's word that they are gone. In a store that only one
        engine at a time can open, all others are.
        """
        ...

    async def beat(self, owner: str) -> bool:
        """Say that the engine lives, for another time to live. False: it was fenced, and its runs are others'."""
        ...

    def keep_alive(self, owner: str) -> AbstractAsyncContextManager[None]:
        """While inside, the engine is heard of even where its threads get no turn to run.

        It is heard of no longer than its process exists and is not stopped. A store that only one engine can open
        needs to do nothing.
        """
        ...

    async def leave(self, owner: str) -> None:
        """The engine goes in an orderly way: its runs are free at once."""
        ...

    async def announce(self, owner: str, url: str | None) -> None:
        """The engine can be reached there from now on. An engine that was fenced says it in vain."""
        ...

    async def claim(
        self,
        owner: str,
        *,
        root_id: RunId | None = None,
        limit: int = 100,
        journal_format: int = JOURNAL_FORMAT,
    ) -> Sequence[tuple[RunRecord, Lease]]:
        """Take over the unfinished runs of at most `limit` trees whose owner is dead or has left, oldest trees first.

        Only trees of the engine's own group whose journal format is at most `journal_format`; with `root_id` that one
        tree, whatever its group. A tree is a root run and its sub-runs, and goes as a whole. Dead owners are fenced,
        each run gets a lease with a higher epoch and one more claim, in one transaction: what a former owner still
        writes is refused. Engines that claim at the same moment do not wait for each other and never get the same run.
        Runs that were taken by a call whose answer was lost are given by the next.
        """
        ...

    async def ownership(self, run_id: RunId) -> Ownership | None:
        """Who has a run; None: no run has this id."""
        ...

    async def engines(self) -> Sequence[EngineRecord]:
        """Those that are alive, oldest first."""
        ...


class Inbox(Protocol):
    """Messages to the owners of runs. Only an owner writes to a run's journal; others ask for what they want here."""

    async def send(self, message: Message) -> bool:
        """Keep a message until the run's owner has done what it says; durable when this returns.

        False: there is no such run or it has ended, and nothing was kept.
        """
        ...

    async def receive(self, owner: str, *, limit: int = PAGE) -> Sequence[Message]:
        """Messages to the runs that this engine owns, in the order they were sent, at most `limit`.

        They are given again until they are `done`. Those to runs that have ended are among them.
        """
        ...

    async def done(self, messages: Sequence[Message]) -> None:
        """What these say has been done, durably."""
        ...


LAST_ATTEMPT = 2**62
"""Beyond any attempt."""


class Dispatch(Protocol):
    """Tasks that their engine finds nobody for, taken by engines that have a worker free."""

    async def offer(self, owner: str, offers: Sequence[Offer]) -> None:
        """Offer tasks to the other engines. An offer of a later attempt replaces that of an earlier one."""
        ...

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        """Take offers of this queue that nobody has, oldest first; never one's own.

        An offer whose claimer has died is free again. Engines that claim at once do not wait for each other and never
        get the same offer. Offers of an engine that is dead are not given.
        """
        ...

    async def give_back(self, owner: str, offers: Sequence[Offer]) -> None:
        """Claimed offers that could not be served are free for others again, at their old places."""
        ...

    async def give_back_others(self, owner: str, queue: str, known: Sequence[Offer]) -> None:
        """Free what this engine has claimed in this queue besides these: the answer to its claim was lost.

        Offers are told apart by task and attempt; their bodies don't matter. The engine has no claim on its way in
        this queue meanwhile. Offers that others have claimed, or that were answered, stay as they are.
        """
        ...

    async def answer(self, answer: Answer) -> bool:
        """What came of a task; durable when this returns, also where the run has a new owner by now.

        Answering again changes nothing. False: nobody waits for it (withdrawn, replaced by a later attempt, answered
        before), and nothing was kept.
        """
        ...

    async def answers(self, owner: str, *, limit: int = PAGE) -> Sequence[Answer]:
        """Answers for the runs that this engine owns now, oldest first; given again until `withdraw`."""
        ...

    async def take_back(self, owner: str, task_ids: Sequence[TaskId]) -> Sequence[TaskId]:
        """Withdraw those of one's own offers that nobody has, or whose claimer has died, and give their ids.

        The others stay: somebody is at work on them, or has answered.
        """
        ...

    async def withdraw(self, task_ids: Sequence[TaskId], *, through: int = LAST_ATTEMPT) -> None:
        """Drop offers and their answers: they were recorded, or are not wanted any more.

        Offers of attempts after `through` stay: they may be those of an engine that has taken the run over.
        """
        ...

    async def announce(self, owner: str, queue: str, listed: bytes) -> None:
        """Say what this engine's workers of a queue can do. It holds until it is said anew, or the engine is gone."""
        ...

    async def announced(self, owner: str, queue: str) -> Sequence[bytes]:
        """What the other engines that live have said of a queue, in the order of their names."""
        ...


class Credit(Protocol):
    """How many more tasks the workers of a queue could take now, as `anyio.Semaphore` counts it."""

    async def acquire(self) -> None:
        """Wait for a worker and have it."""
        ...

    def acquire_nowait(self) -> None:
        """The same without waiting. Raises: anyio.WouldBlock."""
        ...

    def release(self) -> None:
        """The worker is free again."""
        ...


Work: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""What a worker does: a task's body in, the answer's body out. It must not raise."""


class Exchange(Protocol):
    """Where the tasks of all engines that share a store meet the workers of all; each engine has its own end of it."""

    async def perform(self, offer: Offer, credit: Credit, work: Work) -> bytes:
        """Have a task done by a worker of this engine, or of another when none was free here for a moment.

        An answer that came while the run was being taken over is given without doing the task again.
        """
        ...

    async def serve(self, queue: str, credit: Credit, work: Work) -> None:
        """Let the workers of this engine do the tasks of others while they are free. Until it is cancelled."""
        ...

    def announce(self, queue: str, listed: bytes) -> None:
        """Tell the others what the workers of this engine can do, soon and for as long as the engine lives."""
        ...

    async def follow(self, queue: str, heard: Callable[[Sequence[bytes]], None]) -> None:
        """Hand on what other engines' workers can do, each time that may have changed. Until it is cancelled."""
        ...


class Listener(Protocol):
    """Hears of one topic for as long as its context is open."""

    async def wait(self, timeout_s: float) -> None:
        """Return when the topic was sent since this last returned (or began to listen), or when the time is over."""
        ...


class Signals(Protocol):
    """Wakes those who wait for what another engine does. A signal may be late or lost: whoever waits looks again.

    The store sends by itself, after a commit: `ended_topic(run_id)`, `inbox_topic(owner)`, `offers_topic(queue)`,
    `answers_topic(owner)` and `announced_topic(queue)` of this module.
    """

    def listen(self, topic: str) -> AbstractContextManager[Listener]:
        """Begin to listen, then look at what is there, then wait: so nothing that is sent in between is missed."""
        ...


def ended_topic(run_id: RunId) -> str:
    return f"end/{run_id}"


def inbox_topic(owner: str) -> str:
    return f"inbox/{owner}"


def offers_topic(queue: str) -> str:
    return f"offers/{queue}"


def answers_topic(owner: str) -> str:
    return f"answers/{owner}"


def announced_topic(queue: str) -> str:
    return f"announced/{queue}"


class Retention(Protocol):
    """Deletes what nobody needs any more, a little at a time."""

    async def delete(self, root_id: RunId) -> bool:
        """Delete a root run that has ended, with its sub-runs, events and results. False: there is none, or it goes on.

        Blobs stay: other runs may use the same.
        """
        ...

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        """Delete at most `limit` root runs, oldest first, and say how many: those that ended before this time (in
        seconds since the epoch), and those beyond the newest `keep` that have ended. Call it until it gives 0.
        """
        ...

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        """Delete at most `limit` blobs that nobody put or read since, and say how many."""
        ...


class Backend(Protocol):
    """A whole store, as `Engine(store=…)` takes it. Open it with `async with`."""

    @property
    def journal(self) -> Store:
        """Where runs are written."""
        ...

    @property
    def runs(self) -> Runs:
        """Where they are asked about."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Where content is kept."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether what is written outlives the process, and may be read by others."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether several engines may have it open at once."""
        ...

    @property
    def owners(self) -> Owners:
        """Who says which engine drives a run."""
        ...

    @property
    def inbox(self) -> Inbox:
        """Where the owners of runs are asked for something."""
        ...

    @property
    def dispatch(self) -> Dispatch:
        """Where engines hand tasks to each other."""
        ...

    @property
    def signals(self) -> Signals:
        """What wakes those who wait for another engine."""
        ...

    @property
    def retention(self) -> Retention:
        """What deletes old runs."""
        ...

    async def __aenter__(self) -> "Backend": ...

    async def __aexit__(self, *exc: object) -> None: ...


class SubRun(msgspec.Struct, frozen=True):
    """A finished sub-run."""

    id: RunId
    status: RunStatus
    results: tuple[Outcome, ...]  # in item order


class Host(Protocol):
    """What a plugin may ask of the engine while it performs a task."""

    @property
    def clock(self) -> Clock:
        """The engine's clock: whatever waits, waits on it."""
        ...

    @property
    def blobs(self) -> Blobs:
        """The engine's blobs."""
        ...

    async def run_flow(
        self,
        task: Task,
        flow: "BlobId | Mapping[str, Json]",
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        variables: Mapping[str, Json] | None = None,
        overrides: Json = None,
        max_concurrency: int | None = None,
    ) -> SubRun:
        """Run a flow as a sub-run of the task's run and wait for its end; the task's slot is free meanwhile.

        The flow is a stored flow's id or a document. Submitting again with the same key (of this item and step)
        finds the first submission; without a key they are numbered in the order of the calls. Variables that the
        flow declares and that are not given are passed down from the task's run.

        Raises:
            FlowInvalidError, InputInvalidError: the flow or its inputs are refused; nothing was started.
            BlobNotFoundError: no flow has this id.
            ComponentError: sub-runs are nested too deeply.
        """
        ...

    def waiting(self, task: Task, reason: str) -> AbstractAsyncContextManager[None]:
        """While inside, the task only waits: its slot is given back, and taken again at the end."""
        ...

    def report(self, task: Task, progress: Json) -> None:
        """Tell whoever watches how far the task is. Not recorded."""
        ...


class Plugin(Protocol):
    """Who answers for components.

    A plugin is opened when a step first needs it and stays open until the engine closes. One whose tasks leave this
    process, so that they may be answered when it is gone, has an attribute `leaves_process` that is true.
    """

    def open(self) -> AbstractAsyncContextManager[None]:
        """Entered and left by one and the same task."""
        ...

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        """What can be called through a route with these params; None while that is not known yet. Must be cheap."""
        ...

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """Return once `components(params)` is known. An `Explaining` plugin may also once that says another thing."""
        ...

    async def perform(self, task: Task, host: Host) -> Outcome:
        """Do the work. Whatever goes wrong is a `Failed`; only cancellation and bugs come out as exceptions.

        The output is plain JSON and the caller's own (see `stepflow.plugins.normal`).
        """
        ...


@runtime_checkable
class Explaining(Protocol):
    """A plugin that knows why nobody has told it which components there are."""

    def lacking(self, params: Mapping[str, Json]) -> str:
        """What a step waits for, such as "no worker serves queue 'gpu'"."""
        ...


class Observer(Protocol):
    """Watches what happens. Called after the event is durable, on the engine's loop; must not block or raise.

    The values in an event are those of the run itself: whoever wants to change one takes a copy.
    """

    def on_event(self, run_id: RunId, event: object) -> None:
        """An event of `stepflow.execution.events`."""
        ...

    def on_progress(self, task: Task, progress: Json) -> None:
        """What a component reported of its own work."""
        ...
