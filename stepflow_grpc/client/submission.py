"""A run on its way to a server: what is said of it, and its inputs, piece by piece."""

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

import msgspec

from stepflow.errors import InputInvalidError, Problem
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.records import BlobId, Json, RunRecord
from stepflow_grpc.batches import FromClient, Opening, Pieces, frame, part_frames, submitted
from stepflow_grpc.client.calls import Calls
from stepflow_grpc.client.errors import NotServedError, TooLargeError
from stepflow_grpc.client.records import LONGEST_OF_REFERENCE
from stepflow_grpc.messages import WORK_PACKAGE, new
from stepflow_grpc.wire import fill_struct, record_of, to_value


class RemoteOptions(TypedDict, total=False):
    """What may be said of one submission, as with `stepflow.Engine`."""

    variables: Mapping[str, Json] | None
    overrides: Json
    max_concurrency: int | None
    """Most tasks in flight at once. None takes the server's."""
    key: str | None
    """The caller's name for the run: submitted again under it, the same run is given. Only with our server."""
    deadline_s: float | None
    """Seconds after which the run is ended. Only with our server."""
    validation: str | None
    """strict, warn or off, for inputs and variables. Only with our server."""
    new: bool
    """True: start over, whatever run has the key. Only with our server."""


_OURS = ("key", "deadline_s", "validation", "new")


class Submission(Protocol):
    """One run that is being submitted. Closed without `finish`, it has started nothing."""

    async def add(self, input: Json) -> None:
        """One more item. Raises: InputInvalidError."""
        ...

    async def finish(self) -> RunRecord:
        """There are no more: the run as it was stored."""
        ...

    def close(self) -> None: ...


def plain(input: Json, index: int) -> Json:
    """A copy of the input as plain JSON. Raises: InputInvalidError."""
    try:
        return normalise(input)
    except NotJsonError as error:
        problem = Problem(message=f"item {index}: {error.reason}", path=error.path)
        raise InputInvalidError([problem]) from None


class StreamedSubmission:
    """To our server: frame by frame, so that a batch may be of any length.

    Args:
        asks: whether the server has room, before the first input is read.
    """

    def __init__(self, calls: Calls, flow_id: BlobId, options: RemoteOptions, *, asks: bool) -> None:
        self._calls = calls
        self._opening = Opening(
            flow_id=flow_id,
            variables=plain_variables(options),
            overrides=options.get("overrides"),
            max_concurrency=options.get("max_concurrency"),
            deadline_s=options.get("deadline_s"),
            validation=options.get("validation"),
            key=options.get("key"),
            new=options.get("new", False),
            asks=asks,
        )
        self._pieces = Pieces()
        self._count = 0

    async def open(self) -> None:
        """Tell the server which flow is run, and how. Raises: StepflowError."""
        self._call = self._calls.begin("BatchService", "Submit", WORK_PACKAGE)
        try:
            await self._call.write(frame(FromClient(opening=self._opening)))
            if self._opening.asks:
                await self._call.read()
        except BaseException:
            self._call.cancel()
            raise

    def close(self) -> None:
        self._call.cancel()

    async def add(self, input: Json) -> None:
        text = msgspec.json.encode(plain(input, self._count))
        self._count += 1
        if not self._pieces.has_room(len(text)):
            await self._call.write(self._pieces.take_inputs())
        if not self._pieces.is_overlong(len(text)):
            self._pieces.add(text)
            return
        if self._pieces.count:
            await self._call.write(self._pieces.take_inputs())
        for part in part_frames(text.decode()):
            await self._call.write(part)

    async def finish(self) -> RunRecord:
        await self._call.write(self._pieces.take_inputs())
        await self._call.write(frame(FromClient(is_complete=True)))
        return submitted(await self._call.last()).run


class SingleSubmission:
    """To any server of the protocol: one message, which a large batch does not fit into."""

    def __init__(self, calls: Calls, flow_id: BlobId, options: RemoteOptions) -> None:
        for name in _OURS:
            if options.get(name):
                raise NotServedError(f"the server at {calls.address} takes no {name!r} for a run: leave it out")
        self._calls = calls
        self._request = _request(flow_id, options)

    def close(self) -> None:
        """Nothing was sent before the end."""

    async def add(self, input: Json) -> None:
        to_value(plain(input, len(self._request.input)), self._request.input.add())

    async def finish(self) -> RunRecord:
        size = self._request.ByteSize()
        if size > LONGEST_OF_REFERENCE:
            what = f"the batch of {len(self._request.input):,} items"
            remedy = "submit several smaller ones, or put large documents into blobs and pass their ids"
            raise TooLargeError(what, size, LONGEST_OF_REFERENCE, remedy)
        answer = await self._calls.unary("RunsService", "CreateRun", self._request, repeat=False)
        return record_of(answer.summary)


def _request(flow_id: BlobId, options: RemoteOptions) -> Any:
    request: Any = new("CreateRunRequest", flow_id=flow_id)
    concurrency, overrides = options.get("max_concurrency"), options.get("overrides")
    if concurrency is not None:
        request.max_concurrency = concurrency
    if isinstance(overrides, dict):
        fill_struct(overrides, request.overrides)
    for name, value in plain_variables(options).items():
        to_value(value, request.variables[name])
    return request


def plain_variables(options: RemoteOptions) -> dict[str, Json]:
    """Raises: InputInvalidError, where one is no JSON."""
    found: dict[str, Json] = {}
    for name, value in (options.get("variables") or {}).items():
        try:
            found[name] = normalise(value)
        except NotJsonError as error:
            raise InputInvalidError([Problem(message=f"variable {name!r}: {error.reason}", path=error.path)]) from None
    return found
