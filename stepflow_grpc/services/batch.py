"""Batches of any size: inputs in, results out, frame by frame."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from stepflow.engine import Engine
from stepflow.records import Json
from stepflow_grpc.batches import Accepted, FromClient, Opening, Submitted, frame, from_client, question, result_frames
from stepflow_grpc.refusals import CallError, Code, invalid, run_id_of
from stepflow_grpc.services.blobs import blob_id_of
from stepflow_grpc.services.flows import stored_flow
from stepflow_grpc.services.room import Room
from stepflow_grpc.services.watchers import Watchers

MOST_BYTES = 512 * 1024 * 1024
"""Of the inputs of one batch, as JSON text: they are held until the last of them is there."""


class BatchService:
    """Takes batches that would not fit into one message, and gives results as they come.

    Args:
        is_ready: whether calls are taken.
        most_bytes: of the inputs of one batch.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        is_ready: Callable[[], bool],
        most_bytes: int = MOST_BYTES,
        room: Room | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        self._engine = engine
        self._is_ready = is_ready
        self._most_bytes = most_bytes
        self._room = room
        self._watchers = watchers or Watchers()

    async def Submit(self, frames: AsyncIterator[Any]) -> AsyncIterator[Any]:
        if not self._is_ready():
            raise CallError(Code.UNAVAILABLE, "the server is closing; try again")
        batch = _Batch(self._most_bytes)
        async for message in frames:
            batch.take(message)
            break
        opening = batch.opening
        if opening is None:
            raise invalid("the batch does not say first which flow to run")
        flow = await self._accepted(opening)
        if opening.asks:
            yield frame(Accepted())
        inputs = await batch.whole(frames)
        run = await self._engine.submit(
            flow,
            inputs,
            variables=opening.variables,
            overrides=opening.overrides,
            max_concurrency=opening.max_concurrency,
            deadline_s=opening.deadline_s,
            validation=opening.validation,
            key=opening.key,
            new=opening.new,
        )
        yield frame(Submitted(run=await run.record()))

    async def _accepted(self, opening: Opening) -> dict[str, Json]:
        """The flow that is to be run, where there is room for it."""
        flow = await stored_flow(self._engine, blob_id_of(opening.flow_id))
        if self._room is not None:
            self._room.check(flow)
        return flow

    async def Results(self, message: Any) -> AsyncIterator[Any]:
        try:
            asked = question(message)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise invalid(f"the question for results can't be read: {error}") from None
        run = await self._engine.get_run(run_id_of(asked.run_id))
        passed = 0
        async with aclosing(self._watchers.each(run.result_batches(order=asked.order))) as batches:
            async for batch in batches:
                fresh = batch[max(0, asked.skip - passed) :]
                passed += len(batch)
                for told in result_frames(fresh):
                    yield told


class _Batch:
    """What has come of a batch."""

    def __init__(self, most_bytes: int) -> None:
        self.opening: Opening | None = None
        self._inputs: list[Json] = []
        self._parts: list[str] = []
        self._most_bytes = most_bytes
        self._size = 0
        self._is_complete = False

    async def whole(self, frames: AsyncIterator[Any]) -> list[Json]:
        """All inputs, once the last frame is there. Raises: CallError."""
        while not self._is_complete:
            try:
                self.take(await anext(frames))
            except StopAsyncIteration:
                raise invalid("the batch broke off before its end; nothing was started") from None
        return self._inputs

    def take(self, message: Any) -> None:
        """Add what a frame says. Raises: CallError."""
        self._size += len(message.json)
        if self._size > self._most_bytes:
            raise invalid(_too_much(self._most_bytes))
        try:
            self._add(from_client(message))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise invalid(f"a frame of the batch can't be read: {error}") from None

    def _add(self, said: FromClient) -> None:
        if said.opening is not None and self.opening is not None:
            raise ValueError("the flow to run was said already")
        self.opening = said.opening or self.opening
        self._is_complete = said.is_complete
        self._inputs += said.inputs
        if said.part:
            self._parts.append(said.part)
        if said.is_last_part:
            parts, self._parts = self._parts, []
            self._inputs.append(msgspec.json.decode("".join(parts)))
        if self._is_complete and self._parts:
            raise ValueError("the batch ends in the midst of an input")


def _too_much(most: int) -> str:
    return (
        f"the inputs of the batch have more than {most / 1024**2:,.0f} MiB as JSON: put large documents into blobs "
        "and pass their ids, or submit several batches"
    )
