"""What a component may know and ask while it is called."""

import logging
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

import anyio.from_thread
import msgspec

from stepflow.errors import BlobNotFoundError, ComponentError
from stepflow.flow.identity import flow_to_json
from stepflow.flow.model import Flow
from stepflow.protocols import Host, SubRun
from stepflow.records import BlobId, BlobType, ErrorCode, ItemResult, Json, RunId, Succeeded, Task, TaskId

SubFlow: TypeAlias = BlobId | Mapping[str, Any] | Flow
"""A flow that a component runs: the id of a stored one, a document, or one that was read before."""

T = TypeVar("T")


class Call(Protocol):
    """What a context needs of whoever makes the call."""

    @property
    def state(self) -> Any: ...

    @property
    def is_cancelled(self) -> bool: ...

    @property
    def is_in_thread(self) -> bool:
        """Whether the function runs in a worker thread rather than on the event loop."""
        ...

    def check_sub_runs(self) -> None:
        """Raises ComponentError where the call cannot have sub-runs."""
        ...

    def released(self) -> AbstractAsyncContextManager[None]:
        """While inside, whatever the call holds is given back; it is taken again at the end."""
        ...

    def to_json(self, value: Any) -> Json:
        """The value as plain JSON. Raises ValueError."""
        ...


class Context:
    """What a component may know and ask: declare a parameter of this type, and it is passed.

    The methods that wait are coroutines; `sync` has the same methods for a component that is a plain `def`.
    """

    __slots__ = ("_call", "_host", "_logger", "_task")

    def __init__(self, task: Task, host: Host, call: Call) -> None:
        self._task = task
        self._host = host
        self._call = call
        self._logger: CallLogger | None = None

    @property
    def run_id(self) -> RunId:
        """The run that the call belongs to."""
        return self._task.run_id

    @property
    def root_run_id(self) -> RunId:
        """The run at the top, when this one is a sub-run; otherwise the same as `run_id`."""
        return self._task.root_run_id

    @property
    def flow_id(self) -> BlobId:
        """The content id of the run's flow."""
        return self._task.flow_id

    @property
    def step_id(self) -> str:
        """The step that is performed, as the flow names it."""
        return self._task.step_id

    @property
    def item(self) -> int:
        """The place of the input in its batch, from 0 on."""
        return self._task.item

    @property
    def attempt(self) -> int:
        """1 at first, then one more each time the step is tried again."""
        return self._task.attempt

    @property
    def task_id(self) -> TaskId:
        """The same on every attempt of this step for this item, and no other: a key for requests to be made once."""
        return self._task.id

    @property
    def deadline(self) -> float | None:
        """When the run is given up, in seconds since the epoch; None: never."""
        return self._task.deadline

    @property
    def state(self) -> Any:
        """What the registry's `lifespan` yielded in this process; None without one."""
        return self._call.state

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more. A thread cannot be stopped: look here now and then."""
        return self._call.is_cancelled

    @property
    def logger(self) -> "CallLogger":
        """The logger `stepflow.component`, whose records carry `run_id`, `step_id`, `item` and `attempt`."""
        if self._logger is None:
            self._logger = CallLogger(
                logging.getLogger("stepflow.component"),
                {"run_id": self.run_id, "step_id": self.step_id, "item": self.item, "attempt": self.attempt},
            )
        return self._logger

    @property
    def sync(self) -> "SyncContext":
        """The same methods, blocking: for components that run in a thread or in a process."""
        return SyncContext(self)

    def progress(self, value: Json) -> None:
        """Tell whoever watches how far the work is, as any JSON value. It is not recorded."""
        given = self._call.to_json(value)
        if self._call.is_in_thread:
            anyio.from_thread.run_sync(self._host.report, self._task, given)
        else:
            self._host.report(self._task, given)

    async def put_blob(self, data: Any, *, filename: str | None = None) -> BlobId:
        """Store bytes as they are, or any other value as compact JSON, and give its content id."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            return await self._host.blobs.put(bytes(data), BlobType.BINARY, filename=filename)
        content = msgspec.json.encode(self._call.to_json(data))
        return await self._host.blobs.put(content, BlobType.DATA, filename=filename)

    async def get_blob(self, blob_id: BlobId) -> Any:
        """The bytes of a binary blob, the value of any other.

        Raises:
            BlobNotFoundError: no blob has this id.
        """
        blob = await self._host.blobs.get(blob_id)
        if blob is None:
            raise BlobNotFoundError(blob_id)
        return blob.content if blob.type is BlobType.BINARY else msgspec.json.decode(blob.content)

    async def run_flow(
        self,
        flow: SubFlow,
        inputs: Sequence[Any],
        *,
        key: str | None = None,
        variables: Mapping[str, Any] | None = None,
        overrides: Any = None,
        max_concurrency: int | None = None,
    ) -> list[ItemResult]:
        """Run a flow over inputs as a sub-run, and give what became of each, in the order of the inputs.

        While it waits, the call holds nothing: no slot, no place under `max_concurrency`, no thread. When the step is
        tried again, a call with the same key (without one: the same place in the order of calls) finds the first
        sub-run instead of starting another.

        Args:
            flow: the id of a stored flow, a document, or a flow that was read before.
            variables: what is not given here is passed down from the run around it.

        Raises:
            FlowInvalidError, InputInvalidError: the flow or its inputs are refused.
            ComponentError: sub-runs are nested too deeply, or the call is one of a batch.
        """
        self._call.check_sub_runs()
        to_json = self._call.to_json
        given = [to_json(value) for value in inputs]
        values = None if variables is None else {name: to_json(value) for name, value in variables.items()}
        async with self._call.released():
            sub_run = await self._host.run_flow(
                self._task,
                flow_to_json(flow) if isinstance(flow, Flow) else flow,
                given,
                key=key,
                variables=values,
                overrides=to_json(overrides),
                max_concurrency=max_concurrency,
            )
        return _item_results(sub_run)

    async def evaluate(
        self,
        flow: SubFlow,
        input: Any,
        *,
        key: str | None = None,
        variables: Mapping[str, Any] | None = None,
        overrides: Any = None,
    ) -> Any:
        """Run a flow over one input as a sub-run, and give its output.

        Raises:
            ComponentError: the item failed; `code` and `data` are those of its failure.
        """
        results = await self.run_flow(flow, [input], key=key, variables=variables, overrides=overrides)
        outcome = results[0].outcome
        if isinstance(outcome, Succeeded):
            return outcome.output
        raise ComponentError(outcome.message, code=outcome.code, data=outcome.data)


class SyncContext:
    """The methods of a `Context` that wait, blocking, for components that are a plain `def`."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def put_blob(self, data: Any, *, filename: str | None = None) -> BlobId:
        return self._wait(partial(self._context.put_blob, data, filename=filename))

    def get_blob(self, blob_id: BlobId) -> Any:
        return self._wait(partial(self._context.get_blob, blob_id))

    def run_flow(
        self,
        flow: SubFlow,
        inputs: Sequence[Any],
        *,
        key: str | None = None,
        variables: Mapping[str, Any] | None = None,
        overrides: Any = None,
        max_concurrency: int | None = None,
    ) -> list[ItemResult]:
        return self._wait(
            partial(
                self._context.run_flow,
                flow,
                inputs,
                key=key,
                variables=variables,
                overrides=overrides,
                max_concurrency=max_concurrency,
            )
        )

    def evaluate(
        self,
        flow: SubFlow,
        input: Any,
        *,
        key: str | None = None,
        variables: Mapping[str, Any] | None = None,
        overrides: Any = None,
    ) -> Any:
        return self._wait(
            partial(self._context.evaluate, flow, input, key=key, variables=variables, overrides=overrides)
        )

    def _wait(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        call = self._context._call
        if not call.is_in_thread:
            raise RuntimeError(
                "ctx.sync would block the event loop: in an `async def` component, await ctx's own methods"
            )
        if call.is_cancelled:
            raise ComponentError("the call was cancelled", code=ErrorCode.CANCELLED)
        return anyio.from_thread.run(ask)


class CallLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry the call they come from; `extra` of your own is kept beside it."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


def _item_results(sub_run: SubRun) -> list[ItemResult]:
    return [ItemResult(index, outcome) for index, outcome in enumerate(sub_run.results)]
