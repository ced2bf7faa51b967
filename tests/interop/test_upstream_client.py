"""The reference system's own client, unmodified, against our server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow]

SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from stepflow_py import StepflowClient

FLOW = {
    "name": "double",
    "steps": [
        {
            "id": "d",
            "component": "/mine/double",
            "input": {"$input": "$"},
            "onError": {"action": "retry", "maxRetries": 3},
        }
    ],
    "output": {"$step": "d"},
}


async def main():
    told = {}
    async with StepflowClient.local(Path("config.yml")) as client:
        told["healthy"] = await client.is_healthy()
        stored = await client.store_flow(FLOW)
        told["stored"] = stored.stored
        done = await client.run(stored.flow_id, [1, 2.5, "x"])
        told["outputs"] = [result.output.number_value for result in done.results[:2]]
        told["statuses"] = [result.status for result in done.results]
        submitted = await client.submit(stored.flow_id, [4])
        run_id = submitted.summary.run_id
        told["waited"] = (await client.get_run(run_id, wait=True)).summary.status
        told["items"] = await client.get_run_items(run_id)
        told["ended"] = told["items"][0].pop("completed_at")[:2]
        told["events"] = [event.WhichOneof("event") async for event in client.status_events(run_id)]
        listed = await client.list_components(exclude_schemas=True)
        told["components"] = [entry.component_id for entry in listed.components if entry.plugin == "mine"]
        told["variables"] = dict((await client.get_flow_variables(stored.flow_id)).variables)
    print(json.dumps(told))


asyncio.run(main())
"""

COMPONENTS = """
import stepflow

app = stepflow.Components()


@app.component("/double")
def double(n: float) -> float:
    return n * 2
"""


def test_the_client_launches_our_server_and_is_served(tmp_path: Path, upstream_python: Path) -> None:
    (tmp_path / "components.py").write_text(COMPONENTS)
    (tmp_path / "config.yml").write_text(
        "plugins: {mine: {type: python, app: 'components:app'}}\nroutes: {/mine: [{plugin: mine}]}\n"
    )
    (tmp_path / "client.py").write_text(SCRIPT)
    binary = tmp_path / "server"
    binary.write_text(f"#!{sys.executable}\nfrom stepflow_grpc.serving.command import server\nserver()\n")
    binary.chmod(0o755)

    done = subprocess.run(
        [upstream_python, "client.py"],
        cwd=tmp_path,
        env={**os.environ, "STEPFLOW_DEV_BINARY": str(binary)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told == {
        "healthy": True,
        "stored": True,
        "outputs": [2, 5],
        "statuses": [2, 2, 3],
        "waited": 2,
        "items": [{"status": "EXECUTION_STATUS_COMPLETED", "output": 8.0}],
        "ended": "20",
        "events": [
            "run_created",
            "steps_needed",
            "step_started",
            "step_completed",
            "item_completed",
            "run_completed",
        ],
        "components": ["double"],
        "variables": {},
    }
