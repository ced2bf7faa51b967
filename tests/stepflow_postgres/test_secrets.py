"""No table of a server shows a run's secrets, whatever becomes of the run."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.records import RunStatus
from stepflow_postgres.backend import PostgresBackend

pytestmark = pytest.mark.anyio

SECRET = {"type": "string", "is_secret": True}
CALLERS, OUTSIDE, PIN = "callers-hunter2", "outside-hunter2", "inputs-hunter2"
ALL = [{"$variable": "key"}, {"$variable": "env"}, {"$input": "pin"}]
INNER = {"steps": [{"id": "e", "component": "/echo", "input": {"$input": "$"}}], "output": {"$step": "e"}}
FLOW = {
    "schemas": {
        "properties": {
            "variables": {"properties": {"key": SECRET, "env": {**SECRET, "env_var": "SHOP_KEY"}}},
            "input": {"properties": {"pin": SECRET}},
        }
    },
    "steps": [
        {"id": "echoed", "component": "/echo", "input": ALL},
        {"id": "refused", "component": "/refuse", "input": ALL, "onError": {"action": "useDefault"}},
        {
            "id": "mapped",
            "component": "/builtin/map",
            "input": {"workflow": {"$literal": INNER}, "items": [ALL], "after": {"$step": "echoed"}},
        },
        {"id": "hung", "component": "/hang", "input": [{"$step": "mapped", "path": "results"}, {"$step": "refused"}]},
    ],
    "output": {"all": ALL, "hung": {"$step": "hung"}},
}


class Shop:
    def __init__(self) -> None:
        self.app = Components()
        self.hangs = True
        self.hung = anyio.Event()

        @self.app.component("/echo")
        async def echo(values: Any) -> Any:
            return {"same": values, "inside": [f"<{value}>" for value in values]}

        @self.app.component("/refuse")
        async def refuse(values: Any) -> Any:
            raise ValueError(f"refused {' and '.join(values)}")

        @self.app.component("/hang")
        async def hang(values: Any, ctx: Context) -> Any:
            if self.hangs:
                self.hung.set()
                await anyio.sleep_forever()
            return len(values)


@pytest.fixture
async def dump(postgres_server_url: str) -> AsyncIterator[Any]:
    """Gives all that the tables hold, bytes as hexadecimal digits."""
    async with await psycopg.AsyncConnection.connect(postgres_server_url) as connection:

        async def dumped() -> str:
            await connection.rollback()
            found = await connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
            parts = []
            for schema, table in await found.fetchall():
                rows = await connection.execute(
                    sql.SQL("SELECT each::text FROM {} AS each").format(sql.Identifier(schema, table))
                )
                parts += [f"{table} {row}" for (row,) in await rows.fetchall()]
            return "\n".join(parts)

        yield dumped


def hidden(text: str) -> bool:
    return not any(
        spelt in text for secret in (CALLERS, OUTSIDE, PIN) for spelt in (secret, secret.encode().hex(), secret[2:])
    )


async def test_no_table_holds_a_secret(
    backend: PostgresBackend, empty_postgres_url: str, dump: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("SHOP_KEY", OUTSIDE)
    shop = Shop()
    async with Engine(shop.app, store=backend) as engine:
        run = await engine.submit(FLOW, [{"pin": PIN}], variables={"key": CALLERS, "env": OUTSIDE})
        await shop.hung.wait()
        under_way = await dump()

    shop.hangs = False
    async with Engine(shop.app, store=PostgresBackend(empty_postgres_url)) as engine:
        again = await engine.get_run(run.id)
        record = await again.wait()
        result = await again.result(0)
    ended = await dump()

    assert record.status is RunStatus.COMPLETED
    assert record.is_sealed
    assert result.output == {"all": [CALLERS, OUTSIDE, PIN], "hung": 2}
    assert run.id in under_way
    assert b"$sealed".hex() in under_way
    assert hidden(under_way)
    assert hidden(ended)
    assert not hidden(f"…{CALLERS.encode().hex()}…"), "the test would notice it"
