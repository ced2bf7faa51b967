"""Offers and messages whose names are long, odd, or given twice."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from stepflow.protocols import offers_topic
from stepflow.records import Answer, Message, Offer, RunId
from stepflow.testing.suites.writes import Ids, begin, enter, record
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.statements import statement

pytestmark = pytest.mark.anyio

ODD = "nul \0 one \1 two \1\2 quote ' \" back\\slash %s ünïcödé 🦆 \u2028"
LONG = "q" * 5_000


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, "engine-1")
        await enter(backend, "engine-2")
        yield backend


@pytest.fixture
async def run(store: PostgresBackend) -> RunId:
    return await begin(store, record(Ids().draw()))


def offer(task_id: str, run: RunId, *, queue: str = "gpu", attempt: int = 1, body: bytes = b"\0body") -> Offer:
    return Offer(task_id=task_id, attempt=attempt, run_id=run, queue=queue, body=body)


@pytest.mark.parametrize("queue", [ODD, LONG, ""], ids=["odd", "long", "empty"])
async def test_a_queue_may_have_any_name(store: PostgresBackend, run: RunId, queue: str):
    with store.signals.listen(offers_topic(queue)) as listener:
        await store.dispatch.offer("engine-1", [offer("a", run, queue=queue), offer("b", run, queue=f"{queue}'")])
        await listener.wait(60)

    [claimed] = await store.dispatch.claim("engine-2", queue, limit=5)
    await store.dispatch.give_back("engine-2", [claimed])

    assert claimed == offer("a", run, queue=queue)
    assert list(await store.dispatch.claim("engine-2", queue)) == [claimed]


async def test_of_a_task_that_is_offered_twice_at_once_the_later_attempt_counts(store: PostgresBackend, run: RunId):
    await store.dispatch.offer(
        "engine-1", [offer("a", run, attempt=2), offer("a", run, attempt=3), offer("a", run, attempt=1)]
    )

    claimed = await store.dispatch.claim("engine-2", "gpu", limit=5)

    assert list(claimed) == [offer("a", run, attempt=3)]
    assert not await store.dispatch.answer(Answer(task_id="a", attempt=2, run_id=run, body=b"late"))


async def test_a_large_task_and_a_large_answer_come_back_whole(store: PostgresBackend, run: RunId):
    body = bytes(range(256)) * 20_000
    await store.dispatch.offer("engine-1", [offer("a", run, body=body)])
    [claimed] = await store.dispatch.claim("engine-2", "gpu")

    await store.dispatch.answer(Answer(task_id="a", attempt=1, run_id=run, body=body[::-1]))

    [answer] = await store.dispatch.answers("engine-1")
    assert (claimed.body, answer.body) == (body, body[::-1])


async def test_an_offer_is_not_taken_from_an_engine_that_came_while_it_was_looked_for(
    store: PostgresBackend, run: RunId, postgres_server_url: str
):
    """Who lives is looked up once, as it was when the claim began; the offer itself once more when it is locked."""
    await store.dispatch.offer("engine-1", [offer("a", run)])
    text = statement("claim_offers", store.database.location.schema).decode()
    slow = text.replace("offer.answer IS NULL", "offer.answer IS NULL AND pg_advisory_xact_lock(42) IS NOT NULL", 1)
    assert slow != text
    holder = await psycopg.AsyncConnection.connect(postgres_server_url, autocommit=True)
    conninfo = store.database.location.conninfo
    claimer = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    async with holder, claimer:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 42"
        await (await holder.execute("SELECT pg_advisory_lock(42)")).fetchall()
        claiming = asyncio.create_task(claimer.execute(slow, {"owner": "engine-2", "queue": "gpu", "limit": 1}))
        async with asyncio.timeout(60):
            while (await (await holder.execute(waiting)).fetchone()) != (1,):
                await asyncio.sleep(0.01)
        await enter(store, "engine-3")
        [taken] = await store.dispatch.claim("engine-3", "gpu")
        await holder.execute("SELECT pg_advisory_unlock(42)")
        also_taken = await (await claiming).fetchall()

    assert (taken.task_id, also_taken) == ("a", [])


async def test_nothing_to_do_is_asked_of_nobody(store: PostgresBackend):
    async def fail(*args: object) -> None:
        raise AssertionError("a statement was sent")

    store.database.write = fail  # type: ignore[method-assign, assignment]

    await store.dispatch.offer("engine-1", [])
    await store.dispatch.give_back("engine-1", [])
    await store.dispatch.withdraw([])
    await store.inbox.done([])

    assert await store.runs.list() == []


async def test_a_message_may_hold_any_text_and_any_bytes(store: PostgresBackend, run: RunId):
    message = Message(id=ODD, run_id=run, kind=ODD, payload=bytes(range(256)))

    await store.inbox.send(message)
    received = list(await store.inbox.receive("engine-1"))
    await store.inbox.done(received)

    assert received == [message]
    assert list(await store.inbox.receive("engine-1")) == []


async def test_an_engine_may_say_of_itself_what_it_likes(store: PostgresBackend, run: RunId):
    engine = await enter(store, "engine-3", name=ODD, group=ODD)

    [known] = [known for known in await store.owners.engines() if known.owner == "engine-3"]

    assert (engine.name, engine.group) == (ODD, ODD)
    assert (known.name, known.group) == (ODD, ODD)
    assert await store.owners.ownership(run) is not None
