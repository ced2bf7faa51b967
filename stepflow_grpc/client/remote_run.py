"""A run at a server."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stepflow.errors import RunFailedError
from stepflow.records import BlobId, ItemResult, Json, RunId, RunRecord, RunStatus, Succeeded
from stepflow_grpc.client import following
from stepflow_grpc.client.calls import Calls
from stepflow_grpc.client.records import RunEvent, StepRecord, step_of
from stepflow_grpc.messages import new
from stepflow_grpc.wire import record_of

ORDERS = ("item", "completion")


class RemoteRun:
    """A run at a server: wait for it, read its results, cancel it. The run goes on when this is dropped."""

    def __init__(self, calls: Calls, record: RunRecord, *, streams: bool) -> None:
        self.id: RunId = record.id
        self.flow_id: BlobId = record.flow_id
        self._calls = calls
        self._streams = streams

    def __repr__(self) -> str:
        return f"<RemoteRun {self.id} at {self._calls.address}>"

    async def record(self) -> RunRecord:
        """What the server says of the run now."""
        return await following.looked_at(self._calls, self.id)

    async def wait(self) -> RunRecord:
        """Wait for the end, however long that takes, and give the record of it."""
        return await following.ended(self._calls, self.id)

    def results(self, *, order: str = "item") -> AsyncGenerator[ItemResult, None]:
        """Each item's result as soon as it is there, until the last. The reference's server tells them at the end.

        Args:
            order: `item`, or `completion` for the order in which the items end.
        """
        if order not in ORDERS:
            raise ValueError(f"order is 'item' or 'completion', not {order!r}")
        read = following.streamed if self._streams else following.polled
        return read(self._calls, self.id, order)

    def events(
        self, *, since: int = 0, sub_runs: bool = False, results: bool = False
    ) -> AsyncGenerator[RunEvent, None]:
        """Every event from a position on, then new ones as they come, until the run's end.

        Args:
            sub_runs: those of its sub-runs too.
            results: with what steps and items gave.
        """
        return following.events(self._calls, self.id, since=since, sub_runs=sub_runs, results=results)

    async def cancel(self) -> RunRecord:
        """End the run at once; what has ended before stays as it is."""
        answer = await self._calls.unary("RunsService", "CancelRun", run_id=self.id)
        return record_of(answer.summary)

    async def delete(self) -> None:
        """Forget the run. Raises: RunActiveError, where it has not ended."""
        await self._calls.unary("RunsService", "DeleteRun", run_id=self.id, repeat=False)

    async def steps(self, *, item: int | None = None) -> Sequence[StepRecord]:
        """The steps that have begun, of one item or of all, by item and place in the flow."""
        request = new("GetRunStepsRequest", run_id=self.id, item_index=item)
        answer = await self._calls.unary("RunsService", "GetRunSteps", request)
        return sorted((step_of(told) for told in answer.steps), key=lambda step: (step.item, step.step))

    async def step(self, id: str, *, item: int = 0) -> StepRecord:
        """One step of one item. Raises: CallFailedError, where it has not begun or is not there."""
        answer = await self._calls.unary("RunsService", "GetStepDetail", run_id=self.id, step_id=id, item_index=item)
        return step_of(answer.step)

    async def output(self) -> Json:
        """The output of the only item, at the end of the run. Raises: RunFailedError."""
        async with aclosing(self.results()) as results:
            result = await anext(results)
        if isinstance(result.outcome, Succeeded):
            return result.outcome.output
        failed = result.outcome
        step = await self.failed_step(0)
        raise RunFailedError(failed.code, failed.message, step=step, run_id=self.id, data=failed.data)

    async def failed_step(self, item: int) -> str | None:
        """The step that an item's failure came from; None where that is not known."""
        failed = [step.id for step in await self.steps(item=item) if step.status is RunStatus.FAILED]
        return failed[0] if failed else None
