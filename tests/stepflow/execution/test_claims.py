"""A claim that failed and was carried out after all leaves no task with an engine that does not know of it."""

from collections.abc import Sequence

import anyio
import pytest
from anyio.abc import TaskGroup

from stepflow.errors import StoreUnavailableError
from stepflow.execution.claims import LATE_S, Claims
from stepflow.protocols import Dispatch
from stepflow.records import EngineRecord, Offer, RunId
from stepflow.stores.memory import MemoryBackend
from stepflow.stores.memory.dispatch import MemoryDispatch
from stepflow.testing.clock import TurnedClock

pytestmark = pytest.mark.anyio

OFFERS = [Offer(task_id=name, attempt=1, run_id=RunId("run"), queue="gpu", body=b"body") for name in "abc"]


class LossyDispatch(MemoryDispatch):
    """Its claims can fail, and be carried out at once all the same."""

    is_lossy = False

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        taken = await super().claim(owner, queue, limit=limit)
        if self.is_lossy:
            raise StoreUnavailableError("the connection was lost before the answer came")
        return taken


@pytest.fixture
async def dispatch() -> LossyDispatch:
    store = MemoryBackend(shared=True, clock=TurnedClock())
    for owner in ("offers", "claims", "free"):
        await store.owners.enter(EngineRecord(owner=owner, name=owner, started_at=0.0), ttl_s=1e6)
    dispatch = LossyDispatch(store._tables)
    await dispatch.offer("offers", OFFERS)
    return dispatch


def claims_of(dispatch: Dispatch, tasks: TaskGroup) -> Claims:
    return Claims(dispatch, TurnedClock(), tasks, lambda: "claims", "gpu")


async def test_what_was_claimed_in_vain_is_free_and_what_is_known_is_not(dispatch: LossyDispatch) -> None:
    async with anyio.create_task_group() as tasks:
        claims = claims_of(dispatch, tasks)
        known = await claims.take(1)
        dispatch.is_lossy = True
        taken = await claims.take(1)
        await anyio.sleep(1)
        dispatch.is_lossy = False

        assert (list(known), list(taken)) == (OFFERS[:1], [])
        assert list(await dispatch.claim("free", "gpu", limit=3)) == OFFERS[1:]


async def test_what_is_claimed_late_is_freed_later(dispatch: LossyDispatch) -> None:
    async with anyio.create_task_group() as tasks:
        claims = claims_of(dispatch, tasks)
        dispatch.is_lossy = True
        await claims.take(1)
        dispatch.is_lossy = False
        await anyio.sleep(LATE_S / 2)
        await dispatch.claim("claims", "gpu", limit=2)  # the one that failed, on its way for so long
        before = list(await dispatch.claim("free", "gpu"))
        await anyio.sleep(LATE_S)

        assert before == OFFERS[2:]
        assert list(await dispatch.claim("free", "gpu", limit=3)) == OFFERS[:2]


async def test_what_is_done_is_not_named_any_more(dispatch: LossyDispatch, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[list[str]] = []

    async def note(owner: str, queue: str, known: Sequence[Offer]) -> None:
        named.append([one.task_id for one in known])

    monkeypatch.setattr(dispatch, "give_back_others", note)
    async with anyio.create_task_group() as tasks:
        claims = claims_of(dispatch, tasks)
        first, _ = await claims.take(2)
        claims.done(first)
        unasked = list(named)
        dispatch.is_lossy = True
        await claims.take(1)

    assert unasked == []
    assert named == [["b"], ["b"]]
