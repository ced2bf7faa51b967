"""Engine: what a program embeds. It wires the executor, the plugins and the store, and owns their tasks."""

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import Unpack

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from stepflow.clock import SystemChance, SystemClock
from stepflow.components import Components
from stepflow.errors import (
    BlobNotFoundError,
    EngineClosedError,
    PluginUnavailableError,
    RunActiveError,
    RunFailedError,
    RunNotFoundError,
    StoreError,
)
from stepflow.execution.answers import Answers
from stepflow.execution.dispatch import Dispatcher, PluginSource
from stepflow.execution.envelope import Envelope
from stepflow.execution.events import Event, StepFailed
from stepflow.execution.exchange import EngineExchange
from stepflow.execution.executor import Executor
from stepflow.execution.handle import Run
from stepflow.execution.host import EngineHost
from stepflow.execution.intake import Intake, Rules
from stepflow.execution.live import LiveRun
from stepflow.execution.membership import Identity, Membership
from stepflow.execution.options import (
    FlowLike,
    RecoverySettings,
    RetentionSettings,
    SubmitOptions,
    SubRunOptions,
    check_concurrency,
    check_inputs,
    check_options,
    check_validation,
)
from stepflow.execution.recovery import Recovery
from stepflow.execution.sealing import SECRETS, Vault
from stepflow.execution.submission import Plans
from stepflow.execution.verdict import RetrySettings
from stepflow.history.explaining import explain
from stepflow.history.explanation import Explanation
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.plugins.normal import normalise
from stepflow.protocols import Backend, BlobStore, Chance, Clock, Exchange, Observer, Plugin
from stepflow.records import (
    DEFAULT_GROUP,
    Blob,
    BlobId,
    BlobType,
    ComponentInfo,
    Failed,
    ItemResult,
    Json,
    MessageKind,
    Outcome,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
    Task,
    TaskId,
)
from stepflow.routing.table import parse_routes
from stepflow.stores.find import find_run
from stepflow.stores.open import open_store

logger = logging.getLogger("stepflow.engine")

AUTO_CONCURRENCY = 100
DEFAULT_RETRY = RetrySettings()
DEFAULT_RECOVERY = RecoverySettings()

_CLOSED = "the engine was closed before the run ended"

PASSED_ON_ROUNDS = 10
"""Rounds of the loop that an answer may take from a plugin to the run's state."""

CLOSING_S = 5.0
"""How long closing waits for the store to learn of it."""


class ListedComponent(msgspec.Struct, frozen=True):
    plugin: str
    info: ComponentInfo
    routes: tuple[str, ...]
    """The paths by which flows can name it."""


class Engine:
    """Runs flows in this process. Use it with `async with`, on asyncio or Trio.

    Args:
        components: a registry, mounted at `/`, or registries by the path prefix they are mounted at.
        store: where runs are kept: a path, a URL or a backend. None: in memory.
        blobs: where content is kept that steps store apart from their results: a directory, the URL of a store, or a
            store. Flows stay beside the runs. None: everything does.
        plugins: who answers, by name, or a function that makes it when a step first needs it.
        routes: which plugin answers for which paths, as the `routes` of a configuration. Not given, the builtins are
            at `/builtin`.
        max_concurrency: most tasks of one run in flight. None: 100.
        validation: whether inputs and variables that don't fit the flow's schemas are refused (`strict`), logged
            (`warn`) or taken (`off`).
        output_validation: the same for outputs, where `strict` fails the item.
        name: of this engine, equal on every start: the word of whoever gives it that no other engine of this name
            lives. Its runs are taken over at once when it starts again. None: a new one each time.
        group: only runs of the same group are taken over from engines that have died.
        url: where this engine can be reached; kept in the store for others.
        recovery: how it is known to be alive, and whether it takes over what the store holds unfinished. Runs that
            are submitted again under their key go on in any case.
        retention: how long runs that have ended are kept. None: for ever (in memory: the newest 10,000).
        secrets: whether a durable store may keep in clear what can't be sealed there, because it was passed by the
            caller and STEPFLOW_SECRET_KEY is not set: `refuse`, `plain`, or `warn`, which logs the first of them.

    Raises:
        ConfigError: the routes can't be used.
        StoreError: no such store is installed, or the blobs of runs that are kept would not be.
        SecretKeyError: STEPFLOW_SECRET_KEY is malformed, and the store is durable.
    """

    def __init__(
        self,
        components: Components | Mapping[str, Components] | None = None,
        *,
        store: str | os.PathLike[str] | Backend | None = None,
        blobs: str | os.PathLike[str] | BlobStore | None = None,
        plugins: Mapping[str, PluginSource] | None = None,
        routes: Mapping[str, Json] | None = None,
        max_concurrency: int | None = None,
        retry: RetrySettings = DEFAULT_RETRY,
        validation: str = "strict",
        output_validation: str = "warn",
        clock: Clock | None = None,
        chance: Chance | None = None,
        observers: Sequence[Observer] = (),
        name: str | None = None,
        group: str = DEFAULT_GROUP,
        url: str | None = None,
        recovery: RecoverySettings = DEFAULT_RECOVERY,
        retention: RetentionSettings | None = None,
        secrets: str = "refuse",
    ) -> None:
        if secrets not in SECRETS:
            raise ValueError(f"secrets is one of {', '.join(SECRETS)}, not {secrets!r}")
        for what, mode in (("validation", validation), ("output_validation", output_validation)):
            check_validation(what, mode)
        check_concurrency(max_concurrency)
        self._sources: dict[str, PluginSource] = dict(plugins or {})
        mounts = self._mount(components)
        if routes is None:
            self._sources.setdefault("builtin", BuiltinPlugin())
            routes = {} if "/builtin" in mounts else {"/builtin": [{"plugin": "builtin"}]}
        self._table = parse_routes(routes, tuple(self._sources), mounts=mounts)
        self.backend: Backend = open_store(store, blobs=blobs)
        self._clock: Clock = clock or SystemClock()
        self._chance: Chance = chance or SystemChance()
        self._observers = tuple(observers)
        self._recovery_settings = recovery
        self._retention = retention
        self._identity = Identity(name=name, group=group, url=url)
        self._plans = Plans()
        self._rules = Rules(
            retry=retry,
            max_concurrency=max_concurrency or AUTO_CONCURRENCY,
            validation=validation,
            output_validation=output_validation,
        )
        self._vault = Vault(os.environ, secrets=secrets) if self.backend.is_durable else None
        self._stack: AsyncExitStack | None = None

    def _mount(self, components: Components | Mapping[str, Components] | None) -> dict[str, str]:
        registries = {} if components is None else components
        if isinstance(registries, Components):
            registries = {"/": registries}
        mounts = {}
        for prefix, registry in registries.items():
            name = f"components at {prefix}"
            self._sources[name] = FunctionsPlugin(registry)
            mounts[prefix] = name
        return mounts

    async def __aenter__(self) -> "Engine":
        if self._stack is not None:
            raise EngineClosedError("the engine is open already; make another one for another `async with`")
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.backend)
                await self._start(await stack.enter_async_context(anyio.create_task_group()))
                self._stack = stack.pop_all()
        except BaseExceptionGroup as group:
            raise _innermost(group) from None
        return self

    async def _start(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._dispatcher = Dispatcher(self._table, self._sources, tasks)
        self._executor = Executor(
            store=self.backend.journal,
            is_durable=self.backend.is_durable,
            dispatcher=self._dispatcher,
            clock=self._clock,
            chance=self._chance,
            tasks=tasks,
            checkpoint_every=self._recovery_settings.checkpoint_interval,
            observers=self._observers,
            vault=self._vault,
        )
        self._host = self._executor.host = EngineHost(
            executor=self._executor,
            runs=self.backend.runs,
            blobs=self.backend.blobs,
            clock=self._clock,
            chance=self._chance,
            plans=self._plans,
            settings=self._rules.retry,
            output_validation=self._rules.output_validation,
        )
        self._membership = Membership(
            backend=self.backend,
            executor=self._executor,
            clock=self._clock,
            chance=self._chance,
            identity=self._identity,
            settings=self._recovery_settings,
            retention=self._retention,
        )
        self._executor.exchange = EngineExchange(
            self.backend,
            self._clock,
            tasks,
            lambda: self._membership.owner,
            Envelope(self._vault, self._has_secrets),
        )
        self._membership.recovery = Recovery(
            backend=self.backend,
            executor=self._executor,
            clock=self._clock,
            tasks=tasks,
            plans=self._plans,
            settings=self._rules.retry,
            max_concurrency=self._rules.max_concurrency,
            output_validation=self._rules.output_validation,
            heed=self._membership.heed,
        )
        self._membership.answers = Answers(
            backend=self.backend,
            executor=self._executor,
            clock=self._clock,
            chance=self._chance,
            vault=self._vault,
        )
        self._intake = Intake(
            backend=self.backend,
            executor=self._executor,
            membership=self._membership,
            clock=self._clock,
            chance=self._chance,
            tasks=tasks,
            plans=self._plans,
            plain=normalise,
            rules=self._rules,
        )
        await self._membership.enter()
        await tasks.start(self._executor.serve)
        tasks.start_soon(self._membership.serve)
        await self._membership.recover_at_start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        assert stack is not None
        await self._let_go()
        self._tasks.cancel_scope.cancel()
        try:
            await stack.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            raise _innermost(group) from None

    def _has_secrets(self, run_id: RunId) -> bool:
        live = self._executor.live(run_id)
        return live is not None and live.sealer is not None

    @property
    def exchange(self) -> Exchange:
        """Where this engine's tasks meet the workers of all engines that share its store. Open while the engine is."""
        self._backend()
        return self._executor.exchange

    async def _let_go(self) -> None:
        """Set the runs that are under way free for others; a store that fails can't delay it long."""
        with self._clock.timeout(CLOSING_S, shield=True) as time:
            try:
                if self.backend.is_durable or self.backend.is_shared:
                    await self._executor.release()
                self._executor.close(self._closed())
                await self._membership.leave()
            except StoreError as error:
                logger.warning("the store was not told that this engine closes: %s", error)
        if time.cancelled_caught:
            logger.warning("the store was not told within %g s that this engine closes", CLOSING_S)
        self._executor.close(self._closed())

    def _closed(self) -> EngineClosedError:
        """What whoever waits for a run is told."""
        failure = self._executor.failure
        if failure is None:
            return EngineClosedError(_CLOSED)
        return EngineClosedError(f"{_CLOSED}: what happened can't be recorded: {type(failure).__name__}: {failure}")

    def plugins(self) -> dict[str, Plugin]:
        """The plugins that can be made here, by name."""
        self._backend()
        found: dict[str, Plugin] = {}
        for name in self._sources:
            with suppress(PluginUnavailableError):
                found[name] = self._dispatcher.plugin(name)
        return found

    def routes_to(self, plugin: str) -> list[tuple[str, Mapping[str, Json]]]:
        """The routes that lead to a plugin, each with its params."""
        return [
            (route.key, rule.params) for route in self._table.routes for rule in route.rules if rule.plugin == plugin
        ]

    def plugins_behind(self, component: str) -> list[tuple[str, Mapping[str, Json]]]:
        """The plugins that may answer for a component's path, each with the params of the route to it."""
        found = self._table.candidates(component)
        return [(rule.plugin, rule.params) for candidate in found for rule in candidate.route.rules]

    def is_driving(self, run_id: RunId) -> bool:
        """Whether this engine drives the run now."""
        return self._live(run_id) is not None

    def observe(self, observer: Observer) -> None:
        """Let somebody more watch what happens, for as long as the engine is open."""
        self._backend()
        self._executor.observe(observer)

    @property
    def owner(self) -> str:
        """As whom this engine owns its runs: another name on each start, and after it was taken for dead."""
        self._backend()
        return self._membership.owner

    async def submit(
        self,
        flow: FlowLike,
        inputs: Iterable[Json] | AsyncIterable[Json],
        **options: Unpack[SubmitOptions],
    ) -> Run:
        """Start a run with one item for each input, and return once it is stored.

        A list is validated whole before anything is stored. Any other iterable is read as the run goes on, on the
        engine's event loop; an input of it that does not fit is a failed item.

        Raises:
            FlowInvalidError: the flow can't be read or run.
            InputInvalidError: an input, a variable or an override does not fit; nothing was stored.
            SecretKeyError: the run of this key holds secrets that can't be had here.
        """
        self._backend()
        check_options(options)
        check_inputs(inputs)
        return await self._intake.submit(flow, inputs, options)

    async def run(self, flow: FlowLike, input: Json = None, **options: Unpack[SubmitOptions]) -> Json:
        """Run a flow for one input, and give its output.

        Raises:
            RunFailedError: the item failed.
            FlowInvalidError, InputInvalidError: see `submit`.
        """
        run = await self.submit(flow, [input], **options)
        try:
            outcome = await run.first_outcome()
        except anyio.get_cancelled_exc_class():
            run.cancel_now()
            raise
        if isinstance(outcome, Succeeded):
            return outcome.output
        step = await self._failed_step(run, outcome)
        raise RunFailedError(outcome.code, outcome.message, step=step, run_id=run.id, data=outcome.data)

    async def run_batch(
        self,
        flow: FlowLike,
        inputs: Iterable[Json] | AsyncIterable[Json],
        **options: Unpack[SubmitOptions],
    ) -> AsyncGenerator[ItemResult, None]:
        """Run a flow for many inputs, and give each item's result in order, as soon as it is there.

        Lazy at both ends: inputs are read, and items begun, only so far ahead of the result that is wanted next.
        Leaving the loop early cancels the run.
        """
        options["keep_results"] = False
        run = await self.submit(flow, inputs, **options)
        try:
            async with aclosing(run.results()) as results:
                async for result in results:
                    yield result
        finally:
            run.cancel_now()

    async def retry(self, run_id: RunId, *, key: str | None = None) -> Run:
        """Try the failed items of a run that has ended again, as a new run with the same inputs and variables.

        Items that succeeded are taken over with their results, the others begin behind the steps that they had
        finished. The former run stays as it is.

        Args:
            key: asking again with the same key gives the same new run.

        Raises:
            RunNotFoundError: no run has this id.
            RunActiveError: it has not ended.
            StoreError: its inputs are not kept any more.
            SecretKeyError: its secrets can't be had here.
        """
        self._backend()
        options: SubmitOptions = {"key": key}
        check_options(options)
        return await self._intake.again(run_id, options)

    async def find_run(self, text: str) -> RunId:
        """The root run that an id, the beginning of one, or `last` stands for.

        Raises:
            RunNotFoundError: there is none.
            AmbiguousRunError: several ids begin so.
        """
        return await find_run(self._backend().runs, text)

    async def explain(self, run_id: RunId) -> Explanation:
        """Why a run does not move, and what would help. Raises: RunNotFoundError."""
        return await explain(
            self._backend(),
            run_id,
            now=self._clock.now(),
            default_concurrency=self._rules.max_concurrency,
            lease_ttl_s=self._recovery_settings.lease_ttl_s,
        )

    async def get(self, run_id: RunId) -> RunRecord:
        """Raises: RunNotFoundError."""
        record = await self._backend().runs.get(run_id)
        if record is None:
            raise RunNotFoundError(run_id)
        return record

    async def get_run(self, run_id: RunId) -> Run:
        """A handle on a run that was submitted before. Raises: RunNotFoundError."""
        record = await self.get(run_id)
        return Run(self._backend(), self._executor, self._membership, record, self._live(run_id))

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        """Root runs, newest first; `before` is the last id of the page before this one."""
        return await self._backend().runs.list(
            status=status, flow_name=flow_name, roots_only=True, limit=limit, before=before
        )

    async def cancel(self, run_id: RunId) -> None:
        """End a run and its sub-runs at once, whoever drives it; a terminal one stays as it is.

        Raises: RunNotFoundError.
        """
        await (await self.get_run(run_id)).cancel()

    async def pause(self, run_id: RunId) -> None:
        """Let no more steps of a root run and its sub-runs begin; those under way go on. Durable when it returns.

        A run that another engine drives is paused as soon as that engine reads its messages, within about a second.

        Raises: RunNotFoundError.
        """
        await self._membership.ask(await self.get(run_id), MessageKind.PAUSE)

    async def resume(self, run_id: RunId) -> None:
        """Go on with a run that was paused. Raises: RunNotFoundError."""
        await self._membership.ask(await self.get(run_id), MessageKind.RESUME)

    def note_waiting(self, task: Task, reason: str) -> None:
        """Have a step that is under way say what it waits for; an empty text: it does not wait any more."""
        live = self._live(task.run_id)
        if live is not None and live.state.is_open(task.item, task.step):
            self._executor.note_waiting(live, task.item, task.step, reason)

    def has_begun(self, run_id: RunId, task_id: TaskId) -> bool:
        """Whether this engine drives the run, and the step of this task has begun and not finished."""
        live = self._live(run_id)
        return live is not None and live.place_of(task_id) is not None

    async def until_recorded(self, task: Task) -> None:
        """Return once an answer that the task's plugin was just given is stored, where this engine drives the run.

        Also when the plugin keeps it to itself, which is not waited for.
        """
        live = self._live(task.run_id)
        if live is None or not self.backend.is_durable:
            return
        for _ in range(PASSED_ON_ROUNDS):
            if not live.state.is_open(task.item, task.step):
                break
            await anyio.lowlevel.checkpoint()
        await self._executor.durable(live)

    async def announce(self, url: str) -> None:
        """Tell the other engines of the store where this one can be reached from now on."""
        self._backend()
        await self._membership.announce(url)

    async def answer(self, run_id: RunId, task_id: TaskId, outcome: Outcome, *, attempt: int | None = None) -> bool:
        """Take what came of a task of any run, from whoever did it: for servers, where a worker's answer finds nobody
        who waits for it. Durable when it returns; a run that another engine drives gets it from the store.

        Args:
            attempt: which one this is the answer to; None: that is not known.

        Returns: False where nobody wants it: the step has finished, or the run has ended.

        Raises:
            StoreUnavailableError: it may or may not have been kept; say it again.
            SecretKeyError: the run has secrets, and nothing here can seal the answer on its way to its owner.
        """
        self._backend()
        return await self._membership.answers.take(run_id, task_id, outcome, attempt)

    async def submit_sub_run(
        self,
        run_id: RunId,
        item: int,
        step: int,
        flow: BlobId | Mapping[str, Json],
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        **options: Unpack[SubRunOptions],
    ) -> Run:
        """Start a sub-run for a step of a run that is driven here and done elsewhere, by a worker. It is stored then.

        The sub-run ends with its root. A key that the step gave before finds the sub-run that was begun for it, also
        after the run was taken over; without one, calls are numbered by attempt.

        Raises:
            RunNotFoundError: no such run is driven here.
            ComponentError: the step has ended.
            FlowInvalidError, InputInvalidError, BlobNotFoundError: see `submit`.
        """
        parent = self._live(run_id)
        if parent is None:
            raise RunNotFoundError(run_id)
        record = await self._host.begin_flow(parent, item, step, key, flow, inputs, options)
        return Run(self.backend, self._executor, self._membership, record, self._live(record.id))

    @asynccontextmanager
    async def lending(self, run_id: RunId, item: int, step: int) -> AsyncIterator[None]:
        """While inside, a step of a run that is driven here waits for sub-runs of its own, and lends them its slot."""
        parent = self._live(run_id)
        if parent is None:
            yield
            return
        async with self._host.lending(parent, item, step):
            yield

    async def delete(self, run_id: RunId) -> None:
        """Delete a root run that has ended, with its sub-runs, events and results. Blobs stay.

        Raises:
            RunNotFoundError: no run has this id.
            RunActiveError: it has not ended.
        """
        if not await self._backend().retention.delete(run_id):
            raise RunActiveError((await self.get(run_id)).id, "it can't be deleted")

    async def recover(self, run_id: RunId | None = None) -> Sequence[RunId]:
        """Take over the unfinished runs of this engine's group that nobody drives, or one of any group, and go on.

        Returns: the root runs that were taken over.
        """
        self._backend()
        return await self._membership.recover(root_id=run_id)

    async def events(self, run_id: RunId) -> AsyncGenerator[Event, None]:
        """Every event the store still has, then new ones as they come, until the run's end."""
        async with aclosing((await self.get_run(run_id)).events()) as events:
            async for event in events:
                yield event

    async def put_blob(self, content: bytes, type: BlobType = BlobType.DATA) -> BlobId:
        """Keep bytes, so that steps can read them by their content id."""
        return await self._backend().blobs.put(content, type)

    async def get_blob(self, blob_id: BlobId) -> Blob:
        """Raises: BlobNotFoundError."""
        blob = await self._backend().blobs.get(blob_id)
        if blob is None:
            raise BlobNotFoundError(blob_id)
        return blob

    async def store_flow(self, flow: FlowLike) -> BlobId:
        """Keep a flow, so that steps can run it by its id. Raises: FlowInvalidError."""
        self._backend()
        plan = self._plans.plan(self._plans.flow(flow))
        await self._intake.store_flow(plan.flow_id, plan.flow)
        return plan.flow_id

    async def list_components(self) -> list[ListedComponent]:
        """Every component that can be called, with the paths that lead to it. What a plugin can't tell is left out."""
        self._backend()
        return [listed for name in self._sources for listed in self._listed(name)]

    def _listed(self, plugin: str) -> Iterable[ListedComponent]:
        """What a plugin has behind any of its routes: which queue one leads to may be said in its params."""
        found: dict[str, ListedComponent] = {}
        routes: list[Mapping[str, Json]] = [params for _, params in self.routes_to(plugin)]
        for params in [each for number, each in enumerate(routes) if each not in routes[:number]] or [{}]:
            for info in self._dispatcher.components(plugin, params) or ():
                if not info.is_alias:
                    paths = self._table.caller_paths(plugin, info, params)
                    before = found[info.id].routes if info.id in found else ()
                    found[info.id] = ListedComponent(plugin, info, tuple(dict.fromkeys((*before, *paths))))
        return found.values()

    def failed_plugins(self) -> dict[str, str]:
        """The plugins that can't be made or opened here, by name, and why."""
        self._backend()
        failed: dict[str, str] = {}
        for name in self._sources:
            try:
                self._dispatcher.plugin(name)
            except PluginUnavailableError as error:
                failed[name] = str(error)
        return failed

    def _backend(self) -> Backend:
        if self._stack is None:
            raise EngineClosedError("the engine is not open: use it inside `async with Engine(…) as engine:`")
        return self.backend

    def _live(self, run_id: RunId) -> LiveRun | None:
        self._backend()
        return self._executor.live(run_id)

    async def _failed_step(self, run: Run, failed: Failed) -> str | None:
        """The step that a failure came from, as the journal tells."""
        found: int | None = None
        async with aclosing(run.events()) as events:
            async for event in events:
                if isinstance(event, StepFailed) and event.error == failed:
                    found = event.step
                    break
        blob = await self.backend.blobs.get(run.flow_id) if found is not None else None
        if blob is None or found is None:
            return None
        step: str = msgspec.json.decode(blob.content)["steps"][found]["id"]
        return step


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that a group wraps; the group itself where there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
