"""Engine: what a program embeds."""

import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Unpack

import anyio
import anyio.lowlevel
import msgspec

from stepflow.clock import SystemChance, SystemClock
from stepflow.components import Components
from stepflow.engine.listing import ListedComponent, failed, listed
from stepflow.engine.serving import ServedEngine
from stepflow.engine.setup import Setup, routed, vault_of
from stepflow.errors import (
    BlobNotFoundError,
    RunActiveError,
    RunFailedError,
    RunNotFoundError,
)
from stepflow.execution.dispatch import PluginSource
from stepflow.execution.events import Event, StepFailed
from stepflow.execution.handle import Run
from stepflow.execution.intake import Rules
from stepflow.execution.membership import Identity
from stepflow.execution.options import (
    FlowLike,
    RecoverySettings,
    RetentionSettings,
    SubmitOptions,
    check_concurrency,
    check_inputs,
    check_options,
    check_validation,
)
from stepflow.execution.submission import Plans
from stepflow.execution.verdict import RetrySettings
from stepflow.history.explaining import explain
from stepflow.history.explanation import Explanation
from stepflow.protocols import Backend, BlobStore, Chance, Clock, Observer
from stepflow.records import (
    DEFAULT_GROUP,
    Blob,
    BlobId,
    BlobType,
    Failed,
    ItemResult,
    Json,
    MessageKind,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
)
from stepflow.stores.find import find_run
from stepflow.stores.open import open_store

AUTO_CONCURRENCY = 100
DEFAULT_RETRY = RetrySettings()
DEFAULT_RECOVERY = RecoverySettings()


class Engine(ServedEngine):
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
        for what, mode in (("validation", validation), ("output_validation", output_validation)):
            check_validation(what, mode)
        check_concurrency(max_concurrency)
        sources, table = routed(components, plugins or {}, routes)
        backend = open_store(store, blobs=blobs)
        rules = Rules(
            retry=retry,
            max_concurrency=max_concurrency or AUTO_CONCURRENCY,
            validation=validation,
            output_validation=output_validation,
        )
        setup = Setup(
            backend=backend,
            clock=clock or SystemClock(),
            chance=chance or SystemChance(),
            sources=sources,
            table=table,
            observers=tuple(observers),
            identity=Identity(name=name, group=group, url=url),
            rules=rules,
            recovery=recovery,
            retention=retention,
            plans=Plans(),
            vault=vault_of(backend, secrets),
        )
        super().__init__(setup)

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
        check_options(options)
        check_inputs(inputs)
        return await self._parts.intake.submit(flow, inputs, options)

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
        options: SubmitOptions = {"key": key}
        check_options(options)
        return await self._parts.intake.again(run_id, options)

    async def find_run(self, text: str) -> RunId:
        """The root run that an id, the beginning of one, or `last` stands for.

        Raises:
            RunNotFoundError: there is none.
            AmbiguousRunError: several ids begin so.
        """
        return await find_run(self._parts.backend.runs, text)

    async def explain(self, run_id: RunId) -> Explanation:
        """Why a run does not move, and what would help. Raises: RunNotFoundError."""
        return await explain(
            self._parts.backend,
            run_id,
            now=self._setup.clock.now(),
            default_concurrency=self._setup.rules.max_concurrency,
            lease_ttl_s=self._setup.recovery.lease_ttl_s,
            ownership=self.ownership,
        )

    async def get(self, run_id: RunId) -> RunRecord:
        """Raises: RunNotFoundError."""
        record = await self._parts.backend.runs.get(run_id)
        if record is None:
            raise RunNotFoundError(run_id)
        return record

    async def get_run(self, run_id: RunId) -> Run:
        """A handle on a run that was submitted before. Raises: RunNotFoundError."""
        record = await self.get(run_id)
        return Run(self._parts.backend, self._parts.executor, self._parts.membership, record, self._parts.live(run_id))

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        """Root runs, newest first; `before` is the last id of the page before this one."""
        return await self._parts.backend.runs.list(
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
        await self._parts.membership.ask(await self.get(run_id), MessageKind.PAUSE)

    async def resume(self, run_id: RunId) -> None:
        """Go on with a run that was paused, and look at once whether there are the secrets that it waits for.

        Raises: RunNotFoundError.
        """
        await self._parts.membership.ask(await self.get(run_id), MessageKind.RESUME)

    async def delete(self, run_id: RunId) -> None:
        """Delete a root run that has ended, with its sub-runs, events and results. Blobs stay.

        Raises:
            RunNotFoundError: no run has this id.
            RunActiveError: it has not ended.
        """
        if not await self._parts.backend.retention.delete(run_id):
            raise RunActiveError((await self.get(run_id)).id, "it can't be deleted")

    async def recover(self, run_id: RunId | None = None) -> Sequence[RunId]:
        """Take over the unfinished runs of this engine's group that nobody drives, or one of any group, and go on.

        Returns: the root runs that were taken over.
        """
        return await self._parts.membership.recover(root_id=run_id)

    async def events(self, run_id: RunId) -> AsyncGenerator[Event, None]:
        """Every event the store still has, then new ones as they come, until the run's end."""
        async with aclosing((await self.get_run(run_id)).events()) as events:
            async for event in events:
                yield event

    async def put_blob(self, content: bytes, type: BlobType = BlobType.DATA) -> BlobId:
        """Keep bytes, so that steps can read them by their content id."""
        return await self._parts.backend.blobs.put(content, type)

    async def get_blob(self, blob_id: BlobId) -> Blob:
        """Raises: BlobNotFoundError."""
        blob = await self._parts.backend.blobs.get(blob_id)
        if blob is None:
            raise BlobNotFoundError(blob_id)
        return blob

    async def store_flow(self, flow: FlowLike) -> BlobId:
        """Keep a flow, so that steps can run it by its id. Raises: FlowInvalidError."""
        plan = self._setup.plans.plan(self._setup.plans.flow(flow))
        await self._parts.intake.store_flow(plan.flow_id, plan.flow)
        return plan.flow_id

    async def list_components(self) -> list[ListedComponent]:
        """Every component that can be called, with the paths that lead to it. What a plugin can't tell is left out."""
        table, dispatcher = self._setup.table, self._parts.dispatcher
        return [each for name in self._setup.sources for each in listed(table, dispatcher, name)]

    def failed_plugins(self) -> dict[str, str]:
        """The plugins that can't be made or opened here, by name, and why."""
        return failed(self._parts.dispatcher, self._setup.sources)

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
