"""What LISTEN and NOTIFY do and fail to do."""

import asyncio
from contextlib import ExitStack

import anyio
import pytest
from pooling_proxy import pooled
from postgres_server import execute

from stepflow_postgres import signals as module
from stepflow_postgres.connection import Connection, own_connection
from stepflow_postgres.location import read_location
from stepflow_postgres.sender import Sender
from stepflow_postgres.signals import PostgresListener, PostgresSignals

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
TOPIC = "end/01933f2c"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def signals_of(url: str, *, listen: str | None = "", channel: str = "stepflow") -> PostgresSignals:
    location = read_location(url)
    return PostgresSignals(
        location.conninfo, listen=location.listen_conninfo if listen == "" else listen, channel=channel
    )


async def is_woken(listener: PostgresListener) -> bool:
    with anyio.move_on_after(PATIENCE_S):
        await listener.wait(2 * PATIENCE_S)
        return True
    return False


async def until_heard(signals: PostgresSignals, listener: PostgresListener) -> None:
    """Return once what others send arrives, with nothing that was sent before."""
    with anyio.fail_after(PATIENCE_S):
        while not signals.is_heard:
            await anyio.sleep(0.01)
        await listener.wait(0)


def lose_connections(url: str) -> None:
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )


async def test_a_topic_reaches_who_listens_in_another_engine(postgres_server_url):
    async with signals_of(postgres_server_url) as here, signals_of(postgres_server_url) as there:
        with here.listen(TOPIC) as listener, here.listen("end/another") as other:
            await until_heard(here, listener)
            await other.wait(0)
            there.send([TOPIC])

            assert await is_woken(listener)
            with anyio.move_on_after(0.05) as waiting:
                await other.wait(PATIENCE_S)

    assert waiting.cancelled_caught


async def test_who_listens_here_is_woken_without_any_listening(postgres_server_url):
    async with signals_of(postgres_server_url, listen=None) as here:
        with here.listen(TOPIC) as listener:
            here.send([TOPIC])

            assert await is_woken(listener)
            assert not here.is_heard


async def test_stores_of_other_schemas_are_not_heard(postgres_server_url):
    async with (
        signals_of(postgres_server_url, channel="blue") as here,
        signals_of(postgres_server_url, channel="green") as there,
        signals_of(postgres_server_url, channel="blue") as also,
    ):
        with here.listen(TOPIC) as listener, here.listen("last") as last:
            await until_heard(here, listener)
            await last.wait(0)
            there.send([TOPIC])
            also.send(["last"])

            assert await is_woken(last)
            with anyio.move_on_after(0.05) as waiting:
                await listener.wait(PATIENCE_S)

    assert waiting.cancelled_caught


async def test_more_topics_than_a_payload_takes_are_all_heard(postgres_server_url):
    topics = [f"offers/{'q' * 200}{number}" for number in range(300)]
    topics += ["offers/" + "x" * 20_000, "offers/nul \0 ünïcödé \u2028 \"'\\"]

    async with signals_of(postgres_server_url) as here, signals_of(postgres_server_url) as there:
        with ExitStack() as stack:
            listeners = [stack.enter_context(here.listen(topic)) for topic in topics]
            for listener in listeners:
                await until_heard(here, listener)

            there.send(topics)

            assert [await is_woken(listener) for listener in listeners] == [True] * len(topics)


async def test_what_was_sent_just_before_closing_is_heard(postgres_server_url):
    async with signals_of(postgres_server_url) as here:
        with here.listen("first") as first, here.listen("last") as last:
            await until_heard(here, first)
            await last.wait(0)
            async with signals_of(postgres_server_url) as there:
                there.send(["first"])
                assert await is_woken(first)
                there.send(["last"])

            assert await is_woken(last)


async def test_a_flood_of_topics_takes_few_statements(postgres_server_url, monkeypatch):
    sent = 0
    send = Sender.send

    async def counting(self, *args):
        nonlocal sent
        sent += 1
        return await send(self, *args)

    async with signals_of(postgres_server_url) as here, signals_of(postgres_server_url) as there:
        with here.listen("last") as listener:
            await until_heard(here, listener)
            monkeypatch.setattr(Sender, "send", counting)
            for number in range(1_000):
                there.send([f"end/{number % 7}"])
            there.send(["last"])

            assert await is_woken(listener)

    assert 1 <= sent <= 2


async def test_who_listens_is_woken_when_the_connection_was_lost_and_hears_again(own_postgres):
    async with signals_of(own_postgres.url) as here, signals_of(own_postgres.url) as there:
        with here.listen(TOPIC) as listener:
            await until_heard(here, listener)
            lose_connections(own_postgres.url)

            assert await is_woken(listener)  # something may have been missed
            await until_heard(here, listener)
            there.send([TOPIC])
            assert await is_woken(listener)


async def test_what_is_sent_while_the_server_is_down_arrives_later(own_postgres):
    async with signals_of(own_postgres.url) as here, signals_of(own_postgres.url) as there:
        with here.listen(TOPIC) as listener:
            await until_heard(here, listener)
            own_postgres.stop("immediate")
            there.send([TOPIC])
            own_postgres.start()

            assert await is_woken(listener)
            await until_heard(here, listener)
            there.send([TOPIC])
            assert await is_woken(listener)


async def test_behind_a_pooler_nothing_is_heard_and_that_is_found_out(own_postgres, monkeypatch, caplog):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.3)
    caplog.set_level("INFO", "stepflow_postgres")

    with pooled(own_postgres.url) as (url, _):
        async with signals_of(url) as here:
            with here.listen(TOPIC) as listener, anyio.fail_after(PATIENCE_S):
                while "not heard here" not in caplog.text:
                    await listener.wait(0.01)
                here.send([TOPIC])

                assert await is_woken(listener)
                assert not here.is_heard


async def test_with_an_address_of_its_own_it_hears_what_is_sent_through_a_pooler(own_postgres):
    direct = read_location(own_postgres.url).conninfo

    with pooled(own_postgres.url) as (url, _):
        async with signals_of(url, listen=direct) as here, signals_of(url, listen=None) as there:
            with here.listen(TOPIC) as listener:
                await until_heard(here, listener)
                there.send([TOPIC])

                assert await is_woken(listener)


async def test_words_of_others_on_the_channel_are_ignored(postgres_server_url):
    async with signals_of(postgres_server_url) as here, signals_of(postgres_server_url) as there:
        with here.listen(TOPIC) as listener:
            await until_heard(here, listener)
            for payload in ("", "hello", "[]", "[1, 2]", '{"end": 1}', '"end/01933f2c"'):
                execute(postgres_server_url, f"SELECT pg_notify('stepflow', '{payload}')")
            there.send([TOPIC])

            assert await is_woken(listener)


async def test_nobody_who_listens_means_no_connection(own_postgres):
    async with signals_of(own_postgres.url):
        await anyio.wait_all_tasks_blocked()

        assert execute(
            own_postgres.url,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        ) == [(0,)]


async def test_a_connection_of_its_own_is_closed_even_when_its_task_is_cancelled_as_it_is_left(
    postgres_server_url: str,
) -> None:
    kept: list[Connection] = []

    async def use() -> None:
        async with own_connection(read_location(postgres_server_url).conninfo) as connection:
            kept.append(connection)
            task.cancel()  # which comes to pass at the next await

    task = asyncio.create_task(use())
    await asyncio.wait([task])

    assert [connection.closed for connection in kept] == [True]


async def test_closing_ends_though_the_driver_loses_what_cancels_it(
    postgres_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, lost = asyncio.Event(), asyncio.Event()

    async def hear(self: PostgresSignals, connection: Connection) -> None:
        heard.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(PostgresSignals, "_hear", hear)
    monkeypatch.setattr(module, "_CANCELLED_AGAIN_S", 0.01)
    with anyio.fail_after(PATIENCE_S):
        async with signals_of(postgres_server_url) as signals:
            with signals.listen(TOPIC):
                await heard.wait()

    assert lost.is_set()
