"""A bit of all that engines do to a store."""

from stepflow.protocols import Backend
from stepflow.records import Answer, Message, MessageKind, Offer, RunChange, RunStatus
from stepflow.testing.suites.writes import Ids, begin, enter, entries, record, result, take_over, write


async def work(store: Backend, other: Backend) -> None:
    ids = Ids()
    await enter(store, "engine-1")
    await enter(other, "engine-9")
    runs = [await begin(store, record(ids.draw(), key=f"key {number}")) for number in range(4)]
    await store.journal.commit([write(run, 2, ["x"], results=[result(0)]) for run in runs])
    new = record(ids.draw())
    await store.journal.commit([write(runs[0], 3, ["y"]), write(new.id, 1, ["begun"], new=new)])
    await store.inbox.send(Message(id="a", run_id=runs[0], kind=MessageKind.CANCEL))
    await store.inbox.done(await store.inbox.receive("engine-1"))
    await store.dispatch.offer("engine-1", [Offer(task_id="t", attempt=1, run_id=runs[0], queue="gpu", body=b"")])
    await other.dispatch.claim("engine-9", "gpu")
    await other.dispatch.answer(Answer(task_id="t", attempt=1, run_id=runs[0], body=b""))
    await store.dispatch.withdraw([one.task_id for one in await store.dispatch.answers("engine-1")])
    async with store.owners.keep_alive("engine-1"):
        assert await store.owners.beat("engine-1")
    await store.blobs.put(b"content")
    leases = await take_over(other, *runs)
    assert set(leases) == set(runs)
    ends = RunChange(status=RunStatus.COMPLETED, ended_at=9.0)
    await other.journal.commit([write(runs[3], 3, ["ended"], lease=leases[runs[3]], change=ends)])
    assert len(await entries(other, runs[0])) == 3
    await other.retention.prune(keep=0)
    await other.owners.leave("engine-2")
