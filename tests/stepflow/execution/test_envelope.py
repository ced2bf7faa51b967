"""Tasks of runs with secrets pass the store sealed, and only to engines that have the key."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from cryptography.fernet import Fernet
from offering_plugin import OfferingPlugin

from stepflow.engine import Engine
from stepflow.errors import SecretKeyError
from stepflow.execution.envelope import Envelope
from stepflow.execution.sealing import Vault
from stepflow.records import Offer, RunStatus
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock

pytestmark = pytest.mark.anyio

KEY, OTHER = (Fernet.generate_key().decode() for _ in range(2))
OFFER = Offer(task_id="t", attempt=1, run_id="r", queue="gpu", body=b"hunter2-hunter2")
FLOW = {
    "schemas": {"properties": {"variables": {"properties": {"key": {"type": "string", "is_secret": True}}}}},
    "steps": [{"id": "s", "component": "/gpu/work", "input": [{"$variable": "key"}, {"$input": "$"}]}],
    "output": {"$step": "s"},
}


def envelope(*keys: str, has_secrets: bool = True) -> Envelope:
    return Envelope(Vault({"STEPFLOW_SECRET_KEY": ",".join(keys)}), lambda run_id: has_secrets)


def test_a_body_of_a_run_with_secrets_is_sealed_on_its_way_and_back() -> None:
    here, there = envelope(KEY), envelope(OTHER, KEY, has_secrets=False)

    closed = here.closed(OFFER)

    assert closed is not None
    assert b"hunter2" not in closed.body
    assert there.opened(closed.body) == OFFER.body
    answer = there.answered(b"hunter2 was here", closed.body)
    assert b"hunter2" not in answer
    for changed in (answer, b"!" + closed.body[5:], b"!\xff", b"neither"):
        with pytest.raises(SecretKeyError):
            here.opened(changed)
    assert envelope(KEY, OTHER).opened(answer) == b"hunter2 was here"


def test_a_sealed_task_goes_only_where_its_key_is() -> None:
    closed = envelope(KEY, OTHER).closed(OFFER)

    assert closed is not None
    assert closed.queue in envelope(OTHER, KEY).queues("gpu")
    assert closed.queue not in [*envelope(OTHER).queues("gpu"), *envelope().queues("gpu")]
    assert KEY not in closed.queue


@pytest.mark.parametrize("body", [b"", b".", b"!x", b'{"a": 1}'])
def test_a_body_of_a_run_without_secrets_goes_to_everybody(body: bytes) -> None:
    plain = Offer(task_id="t", attempt=1, run_id="r", queue="gpu", body=body)

    for here in (envelope(KEY, has_secrets=False), envelope(has_secrets=False), Envelope(None, lambda run_id: True)):
        closed = here.closed(plain)
        assert closed is not None
        assert closed.queue == "gpu"
        for there in (envelope(OTHER), Envelope(None, lambda run_id: False)):
            assert there.opened(closed.body) == body
            assert here.opened(there.answered(body, closed.body)) == body


def test_without_a_key_a_task_with_secrets_stays_where_it_is() -> None:
    assert envelope().closed(OFFER) is None


class Durable(MemoryBackend):
    """Shared, and durable as far as engines know. Keeps the bodies of all offers and answers."""

    def __init__(self) -> None:
        super().__init__(shared=True, clock=TurnedClock())
        self.bodies: list[bytes] = []
        offer, answer = self.dispatch.offer, self.dispatch.answer

        async def offering(owner: str, offers: Sequence[Offer]) -> None:
            self.bodies += [each.body for each in offers]
            await offer(owner, offers)

        async def answering(given: Any) -> bool:
            self.bodies.append(given.body)
            return await answer(given)

        vars(self.dispatch).update(offer=offering, answer=answering)

    @property
    def is_durable(self) -> bool:
        return True


class Pool(OfferingPlugin):
    """A plugin whose tasks wait for workers of a queue."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.done = 0

    async def work(self, body: bytes) -> bytes:
        self.done += 1
        return body


@asynccontextmanager
async def engine_with(pool: Pool, store: Any) -> AsyncIterator[Engine]:
    routes = {"/gpu": [{"plugin": "pool"}]}
    async with Engine(plugins={"pool": pool}, routes=routes, store=store, clock=TurnedClock()) as engine:
        pool.engine = engine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.exchange.serve, "gpu", pool.credit, pool.work)
            yield engine
            tasks.cancel_scope.cancel()


async def test_workers_of_another_engine_get_a_secret_that_no_store_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", KEY)
    store, there = Durable(), Pool(2)

    async with engine_with(Pool(0), store) as one, engine_with(there, store):
        run = await one.submit(FLOW, [1, 2, 3], variables={"key": "hunter2-hunter2"})
        outputs = [result.output async for result in run.results()]

    assert outputs == [["hunter2-hunter2", number] for number in (1, 2, 3)]
    assert (there.done, len(store.bodies)) == (3, 6)
    assert not any(b"hunter2" in body for body in store.bodies)


async def test_without_the_key_no_other_engine_gets_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", KEY)
    store, here, there = Durable(), Pool(1), Pool(2)
    await here.credit.acquire()

    async with engine_with(here, store) as one:
        monkeypatch.setenv("STEPFLOW_SECRET_KEY", OTHER)
        async with engine_with(there, store):
            run = await one.submit(FLOW, [1], variables={"key": "hunter2-hunter2"})
            await anyio.sleep(60)
            assert (await run.record()).status is RunStatus.RUNNING
            here.credit.release()
            await run.wait()

    assert (here.done, there.done) == (1, 0)
    assert not any(b"hunter2" in body for body in store.bodies)


async def test_a_secret_of_the_environment_leaves_no_engine_that_has_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_VAR_KEY", "hunter2-hunter2")
    store, here, there = Durable(), Pool(1), Pool(2)
    await here.credit.acquire()

    async with engine_with(here, store) as one, engine_with(there, store):
        run = await one.submit(FLOW, [1], variables={"key": "hunter2-hunter2"})
        await anyio.sleep(60)
        here.credit.release()
        await run.wait()

    assert (here.done, there.done, store.bodies) == (1, 0, [])
