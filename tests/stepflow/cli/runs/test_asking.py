"""`stepflow runs resume` of a run that waits for a secret: its engine looks again at once."""

from pathlib import Path

import anyio
import pytest

import stepflow
from stepflow.cli.runs import asking
from stepflow.records import RunStatus

SECRET = {"type": "string", "is_secret": True, "env_var": "SHOP_KEY"}
FLOW = {
    "schemas": {"properties": {"variables": {"properties": {"key": SECRET}}}},
    "steps": [{"id": "s", "component": "/shop", "input": {"$variable": "key"}}],
    "output": {"$step": "s"},
}


def test_a_run_that_waits_for_a_secret_goes_on_once_its_engine_has_it(
    cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, app = stepflow.Components(), stepflow.Components()

    @hanging.component("/shop")
    async def hang(key: str) -> int:
        return await anyio.sleep_forever()

    @app.component("/shop")
    def shop(key: str) -> int:
        return len(key)

    monkeypatch.setenv("STEPFLOW_STORE", "runs.db")
    monkeypatch.setenv("SHOP_KEY", "outside-hunter2")
    with stepflow.SyncEngine(hanging, store="runs.db") as engine:
        engine.submit(FLOW, [None], variables={"key": "outside-hunter2"})
    monkeypatch.delenv("SHOP_KEY")

    with stepflow.SyncEngine(app, store="runs.db") as engine:
        with monkeypatch.context() as patch:
            patch.setattr(asking, "LOOKED_AGAIN_S", 0.0)
            waits = cli("runs", "resume", "last")
        monkeypatch.setenv("SHOP_KEY", "rotated-hunter2")
        goes_on = cli("runs", "resume", "last")
        record = engine.get_run(engine.list_runs()[0].id).wait()

    assert (waits.code, goes_on.code) == (1, 0)
    assert "still waits: none of its steps can begin: the environment variable SHOP_KEY is not set" in waits.err
    assert "goes on" in goes_on.err
    assert record.status is RunStatus.COMPLETED
