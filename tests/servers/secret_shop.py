"""Flows whose variables and inputs hold secrets, and components that give away what they are given."""

from pathlib import Path
from typing import Any

import anyio
from cryptography.fernet import Fernet

from stepflow.components import Components, Context
from stepflow.records import Succeeded

KEY, OTHER = (Fernet.generate_key().decode() for _ in range(2))
SECRET = {"type": "string", "is_secret": True}
CALLERS, OUTSIDE, PIN = "callers-hunter2", "outside-hunter2", "inputs-hunter2"
SCHEMAS = {
    "properties": {
        "variables": {"properties": {"key": SECRET, "env": {**SECRET, "env_var": "SHOP_KEY"}}},
        "input": {"properties": {"pin": SECRET}},
    }
}
ALL = [{"$variable": "key"}, {"$variable": "env"}, {"$input": "pin"}]
VARIABLES = {"key": CALLERS, "env": OUTSIDE}


def flow_of(*steps: dict[str, Any], output: Any) -> dict[str, Any]:
    return {"schemas": SCHEMAS, "steps": list(steps), "output": output}


def step(component: str, input: Any = ALL, id: str = "s", **more: Any) -> dict[str, Any]:
    return {"id": id, "component": component, "input": input, **more}


class Shop:
    """Components that give away what they are given, and one that hangs until the test lets it go."""

    def __init__(self) -> None:
        self.app = Components()
        self.hangs = False
        self.hung = anyio.Event()
        self.seen: list[Any] = []

        @self.app.component("/echo")
        async def echo(values: Any) -> Any:
            self.seen.append(values)
            return {"same": values, "inside": [f"<{value}>" for value in values], "json": {str(values[0]): 1}}

        @self.app.component("/refuse")
        async def refuse(values: Any) -> Any:
            try:
                raise ConnectionError(f"no answer to {values}")
            except ConnectionError as error:
                raise ValueError(f"refused {' and '.join(values)}") from error

        @self.app.component("/hang")
        async def hang(values: Any) -> Any:
            self.seen.append(values)
            if self.hangs:
                self.hung.set()
                await anyio.sleep_forever()
            return values

        @self.app.component("/batch")
        async def batch(values: Any, ctx: Context) -> Any:
            flow = {"schemas": SCHEMAS, "steps": [step("/echo", id="e")], "output": {"$step": "e"}}
            run = await ctx.run_flow(flow, [{"pin": values[2]}])
            return [outcome.output for outcome in run.results if isinstance(outcome, Succeeded)]


def assert_hidden(path: Path, *secrets: str) -> None:
    """No file of the store holds one of the secrets."""
    files = list(path.parent.glob(f"{path.name}*"))
    assert files
    for file in files:
        content = file.read_bytes()
        for secret in secrets or (CALLERS, OUTSIDE, PIN):
            assert secret.encode() not in content, f"{secret} in {file.name}"
            assert secret.encode("utf-16-le") not in content
