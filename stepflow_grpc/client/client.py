"""Client: a server's flows, runs, blobs and components, as `stepflow.Engine` has those of its own process."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Self, Unpack

import msgspec

from stepflow.clock import SystemChance, SystemClock
from stepflow.engine import ListedComponent
from stepflow.errors import AmbiguousRunError, FlowInvalidError, InputInvalidError, Problem, RunNotFoundError
from stepflow.execution.options import FlowLike, check_concurrency, check_inputs
from stepflow.flow.document import located
from stepflow.flow.identity import compact_json, flow_to_json
from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json, read_flow
from stepflow.plan.variables import VariableInfo
from stepflow.plugins.normal import normalise
from stepflow.protocols import Chance, Clock
from stepflow.records import (
    Blob,
    BlobId,
    BlobType,
    ComponentInfo,
    ItemResult,
    Json,
    MessageKind,
    RunId,
    RunRecord,
    RunStatus,
)
from stepflow_grpc.address import Address, read_address
from stepflow_grpc.client.asking import ask
from stepflow_grpc.client.calls import Calls
from stepflow_grpc.client.errors import TooLargeError
from stepflow_grpc.client.following import looked_at
from stepflow_grpc.client.records import Health, StoredFlow, stored_flow_of, variables_of
from stepflow_grpc.client.remote_run import RemoteRun
from stepflow_grpc.client.submission import (
    RemoteOptions,
    SingleSubmission,
    StreamedSubmission,
    Submission,
)
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.messages import new
from stepflow_grpc.questions import ListQueues, QueueState, RetryRun, TellRun
from stepflow_grpc.wire import STATUS, from_struct, from_value, record_of, to_struct, to_value

TIMEOUT_S = 30.0
PATIENCE_S = 30.0

_ID = re.compile(r"[0-9a-f]{64}")
_SEARCHED = 1_000
_CANCEL_S = 5.0


class Client:
    """A connection to a server, ours or the reference's. Use it with `async with`, on asyncio.

    Calls that may be repeated are, when the server is away for a moment; streams go on where they broke.

    Args:
        url: `host:port`, or `https://host:port` for TLS. None: STEPFLOW_URL, else 127.0.0.1:7840.
        credentials: certificates and a token. None: those of the environment.
        timeout_s: how long one call may take.
        patience_s: how long a server that has answered before may be away.

    Raises:
        AddressError: the url is none.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        credentials: Credentials | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        clock: Clock | None = None,
        chance: Chance | None = None,
    ) -> None:
        self._calls = Calls(
            read_address(url),
            credentials,
            clock or SystemClock(),
            chance or SystemChance(),
            timeout_s=timeout_s,
            patience_s=patience_s,
        )
        self._health: Health | None = None

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"

    @property
    def address(self) -> Address:
        return self._calls.address

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._calls.open()
            stack.push_async_callback(self._calls.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def health(self) -> Health:
        """What the server says of itself. Raises: ServerUnavailableError."""
        answer = await self._calls.unary("HealthService", "HealthCheck")
        build = answer.build
        self._health = Health(status=answer.status, version=build.git_version, features=tuple(build.features))
        return self._health

    async def _server(self) -> Health:
        return self._health or await self.health()

    async def _check_size(self, what: str, request: Any, remedy: str) -> None:
        size, limit = request.ByteSize(), (await self._server()).longest_message
        if size > limit:
            raise TooLargeError(what, size, limit, remedy)

    async def store_flow(self, flow: FlowLike, *, dry_run: bool = False) -> StoredFlow:
        """Keep a flow at the server, and get its id and what the server finds doubtful.

        Args:
            dry_run: only check it; what makes it impossible to run is among the diagnostics.

        Raises:
            FlowInvalidError: the flow can't be read, or not be run.
        """
        read = read_flow(flow)
        request: Any = new("StoreFlowRequest", flow=to_struct(flow_to_json(read)), dry_run=dry_run)
        await self._check_size("the flow", request, "split it into flows that call each other")
        stored = stored_flow_of(await self._calls.unary("FlowsService", "StoreFlow", request))
        found = tuple(located(stored.diagnostics, read.origin))
        if not stored.is_stored and not dry_run:
            raise FlowInvalidError([each for each in found if each.level == "fatal"] or found)
        return msgspec.structs.replace(stored, diagnostics=found)

    async def get_flow(self, flow_id: BlobId) -> Flow:
        """Raises: FlowNotFoundError."""
        answer = await self._calls.unary("FlowsService", "GetFlow", flow_id=flow_id)
        return flow_from_json(from_struct(answer.flow))

    async def variables(self, flow_id: BlobId) -> tuple[VariableInfo, ...]:
        """The variables that a stored flow declares, by name. Raises: FlowNotFoundError."""
        return variables_of(await self._calls.unary("FlowsService", "GetFlowVariables", flow_id=flow_id))

    async def submit(
        self,
        flow: FlowLike,
        inputs: Iterable[Json] | AsyncIterable[Json],
        **options: Unpack[RemoteOptions],
    ) -> RemoteRun:
        """Start a run with one item for each input, and return once the server has it.

        The inputs are read one by one and sent on; the run begins when the last of them is there.

        Args:
            flow: a path, a document, a flow that was read, or the id of a stored one.

        Raises:
            FlowInvalidError: the flow can't be read or run.
            InputInvalidError: an input, a variable or an override does not fit; nothing was started.
            TooLargeError: more than the server takes; nothing was started.
            NotServedError: an option that this server does not take.
        """
        check_inputs(inputs)
        flow_id = await self.flow_id(flow)
        if not isinstance(inputs, Sequence):
            return await self._run(await _sent(await self.begin(flow_id, **options), inputs))
        is_named = options.get("key") is not None and not options.get("new")

        async def send() -> RunRecord:
            return await _sent(await self._begin(flow_id, options, asks=False), inputs)

        return await self._run(await self._calls.repeating(send, only_busy=not is_named))

    async def flow_id(self, flow: FlowLike) -> BlobId:
        """The id of a flow, which is stored unless it is one already. Raises: FlowInvalidError."""
        if isinstance(flow, str) and _ID.fullmatch(flow):
            return flow
        return (await self.store_flow(flow)).id

    async def begin(self, flow_id: BlobId, **options: Unpack[RemoteOptions]) -> Submission:
        """A run whose inputs are given one by one, once the server has room for it: add them, finish, and close.

        Raises:
            NotServedError: an option that this server does not take.
        """
        return await self._calls.repeating(lambda: self._begin(flow_id, options, asks=True))

    async def _begin(self, flow_id: BlobId, options: RemoteOptions, *, asks: bool) -> Submission:
        for name in options:
            if name not in RemoteOptions.__annotations__:
                known = ", ".join(RemoteOptions.__annotations__)
                raise TypeError(f"there is no option {name!r}; there are {known}")
        check_concurrency(options.get("max_concurrency"))
        if not (await self._server()).takes_batches:
            return SingleSubmission(self._calls, flow_id, options)
        submission = StreamedSubmission(self._calls, flow_id, options, asks=asks)
        await submission.open()
        return submission

    async def run(self, flow: FlowLike, input: Json = None, **options: Unpack[RemoteOptions]) -> Json:
        """Run a flow for one input, and give its output. The run goes on when this is cancelled.

        Raises:
            RunFailedError: the item failed; it carries code, message, step and run_id.
            FlowInvalidError, InputInvalidError: see `submit`.
        """
        return await (await self.submit(flow, [input], **options)).output()

    async def run_batch(
        self,
        flow: FlowLike,
        inputs: Iterable[Json] | AsyncIterable[Json],
        **options: Unpack[RemoteOptions],
    ) -> AsyncGenerator[ItemResult, None]:
        """Run a flow for many inputs, and give each item's result in order, as soon as it is there.

        Leaving the loop early cancels the run.
        """
        run = await self.submit(flow, inputs, **options)
        is_whole = False
        try:
            async with aclosing(run.results()) as results:
                async for result in results:
                    yield result
            is_whole = True
        finally:
            if not is_whole:
                with self._calls.clock.timeout(_CANCEL_S, shield=True):
                    await run.cancel()

    async def get(self, run_id: RunId) -> RunRecord:
        """Raises: RunNotFoundError."""
        return await looked_at(self._calls, run_id)

    async def get_run(self, run_id: RunId) -> RemoteRun:
        """A handle on a run that was submitted before, by anybody. Raises: RunNotFoundError."""
        return await self._run(await self.get(run_id))

    async def cancel(self, run_id: RunId) -> RunRecord:
        """See `RemoteRun.cancel`. Raises: RunNotFoundError."""
        return await (await self.get_run(run_id)).cancel()

    async def delete(self, run_id: RunId) -> None:
        """See `RemoteRun.delete`. Raises: RunNotFoundError, RunActiveError."""
        await (await self.get_run(run_id)).delete()

    async def pause(self, run_id: RunId) -> None:
        """Let no more steps of a run begin; see `stepflow.Engine.pause`. Raises: RunNotFoundError, NotServedError."""
        await ask(self._calls, TellRun(run_id, MessageKind.PAUSE), bool)

    async def resume(self, run_id: RunId) -> None:
        """Go on with a run that was paused. Raises: RunNotFoundError, NotServedError."""
        await ask(self._calls, TellRun(run_id, MessageKind.RESUME), bool)

    async def retry(self, run_id: RunId) -> RemoteRun:
        """Try the failed items of a run that has ended again, as a new run; see `stepflow.Engine.retry`.

        Raises:
            RunNotFoundError: no run has this id.
            CallFailedError: it has not ended, or its inputs are not kept any more.
            NotServedError: this server can't.
        """
        return await self._run(await ask(self._calls, RetryRun(run_id), RunRecord, repeat=False))

    async def queues(self, *, everywhere: bool = False) -> Sequence[QueueState]:
        """How the queues of this server are now: who serves them, and how much waits.

        Args:
            everywhere: also those of the other servers that share its store, each of which has queues of its own. One
                that does not say within two seconds has a row without a queue.

        Raises:
            NotServedError: the server does not answer operators.
        """
        found: Sequence[QueueState] = await ask(self._calls, ListQueues(everywhere), tuple[QueueState, ...])
        return found

    async def _run(self, record: RunRecord) -> RemoteRun:
        return RemoteRun(self._calls, record, streams=(await self._server()).takes_batches)

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        root_id: RunId | None = None,
        parent_id: RunId | None = None,
        roots_only: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> Sequence[RunRecord]:
        """Runs that the server knows, newest first."""
        given = {"flow_name": flow_name, "root_run_id": root_id, "parent_run_id": parent_id}
        asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if status is not None:
            asked["status"] = STATUS[status]
        answer = await self._calls.unary(
            "RunsService", "ListRuns", roots_only=roots_only, limit=limit, offset=offset, **asked
        )
        return [record_of(summary) for summary in answer.runs]

    async def find_run(self, text: str) -> RunId:
        """The id of a root run from its beginning, or from `last`. Only the newest thousand are looked at.

        Raises:
            RunNotFoundError, AmbiguousRunError.
        """
        if len(text) == len("00000000-0000-0000-0000-000000000000"):
            return text
        found = [
            record.id for record in await self.list_runs(roots_only=True, limit=1 if text == "last" else _SEARCHED)
        ]
        matching = found[:1] if text == "last" else [id for id in found if text and id.startswith(text)]
        if not matching:
            raise RunNotFoundError(text)
        if len(matching) > 1:
            raise AmbiguousRunError(text, matching[:3])
        return matching[0]

    async def put_blob(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        """Keep content at the server.

        Args:
            type: bytes of any kind are BINARY; DATA and FLOW are JSON.

        Raises:
            InputInvalidError: the content is no JSON, though its type says so.
            TooLargeError: it does not fit into one message.
        """
        request: Any = new("PutBlobRequest", blob_type=type.value, filename=filename)
        if type is BlobType.BINARY:
            request.raw_data = content
        else:
            to_value(_json(content, type), request.json_data)
        return await self._put(request)

    async def put_json(self, value: Json) -> BlobId:
        """Keep a JSON value at the server, and get the id under which flows and runs can name it."""
        request: Any = new("PutBlobRequest", blob_type=BlobType.DATA.value)
        to_value(normalise(value), request.json_data)
        return await self._put(request)

    async def _put(self, request: Any) -> BlobId:
        await self._check_size("the blob", request, "keep its parts as blobs of their own")
        id: BlobId = (await self._calls.unary("BlobService", "PutBlob", request)).blob_id
        return id

    async def get_blob(self, blob_id: BlobId) -> Blob:
        """Raises: BlobNotFoundError."""
        answer = await self._calls.unary("BlobService", "GetBlob", blob_id=blob_id)
        is_json = answer.WhichOneof("content") == "json_data"
        content = compact_json(from_value(answer.json_data)).encode() if is_json else bytes(answer.raw_data)
        return Blob(blob_id, content, BlobType(answer.blob_type or "data"), answer.filename or None)

    async def get_json(self, blob_id: BlobId) -> Json:
        """The value of a blob that holds JSON. Raises: BlobNotFoundError, msgspec.DecodeError."""
        value: Json = msgspec.json.decode((await self.get_blob(blob_id)).content)
        return value

    async def list_components(self) -> Sequence[ListedComponent]:
        """Every component that flows can call there."""
        answer = await self._calls.unary("ComponentsService", "ListRegisteredComponents")
        return [_component(told) for told in answer.components]


async def _sent(submission: Submission, inputs: Iterable[Json] | AsyncIterable[Json]) -> RunRecord:
    try:
        if isinstance(inputs, AsyncIterable):
            async for input in inputs:
                await submission.add(input)
        else:
            for input in inputs:
                await submission.add(input)
        return await submission.finish()
    finally:
        submission.close()


def _json(content: bytes, type: BlobType) -> Json:
    try:
        value: Json = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        problem = Problem(message=f"the blob is no JSON: {error}", remedy=f"put it as binary rather than {type.value}")
        raise InputInvalidError([problem]) from None
    return value


def _component(told: Any) -> ListedComponent:
    info = ComponentInfo(
        id=told.component_id,
        path=told.path,
        description=told.description or None,
        input_schema=from_struct(told.input_schema) if told.HasField("input_schema") else None,
        output_schema=from_struct(told.output_schema) if told.HasField("output_schema") else None,
    )
    return ListedComponent(told.plugin, info, (told.path,) if told.path else ())
