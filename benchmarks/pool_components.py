"""What the workers of `bench_pool.py` do: nothing, for as long as they are told."""

import asyncio
from typing import Any

import stepflow

app = stepflow.Components()


@app.component("/rest")
async def rest(input: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(input["seconds"])
    return input
