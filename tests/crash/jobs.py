"""The work of the crash loops: flows of several shapes, their inputs by number, and the outputs that are right."""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any

from ledger import Ledger

import stepflow
from stepflow.errors import ComponentError

LONGEST_S = 0.12
"""How long a step takes at most."""


def _work(step: str, source: dict[str, Any], component: str = "/work", **more: Any) -> dict[str, Any]:
    return {"id": step, "component": component, "input": source, **more}


_INPUT = {"$input": "$"}
_RETRY = {"action": "retry", "maxRetries": 5, "backoff": {"type": "constant", "delayMs": 20}}

CHAIN = {
    "name": "chain",
    "steps": [_work("a", _INPUT), _work("b", {"$step": "a"}), _work("c", {"$step": "b"})],
    "output": {"$step": "c"},
}
DIAMOND = {
    "name": "diamond",
    "steps": [
        _work("top", _INPUT),
        _work("left", {"$step": "top"}),
        _work("right", {"$step": "top"}, "/thread"),
        {"id": "sum", "component": "/sum", "input": [{"$step": "left"}, {"$step": "right"}]},
    ],
    "output": {"$step": "sum"},
}
RETRIED = {
    "name": "retried",
    "steps": [_work("first", _INPUT), _work("flaky", {"$step": "first"}, "/flaky", onError=_RETRY)],
    "output": {"$step": "flaky"},
}
INNER = {"name": "inner", "steps": [_work("i", _INPUT)], "output": {"$step": "i"}}
NESTED = {
    "name": "nested",
    "steps": [
        _work("first", _INPUT),
        {
            "id": "m",
            "component": "/builtin/map",
            "input": {"workflow": {"$literal": INNER}, "items": [{"$step": "first"}, 100]},
        },
        {
            "id": "sum",
            "component": "/sum",
            "input": [{"$step": "m", "path": f"results[{n}].result"} for n in range(2)],
        },
    ],
    "output": {"$step": "sum"},
}

FLOWS: list[tuple[dict[str, Any], Callable[[int], int]]] = [
    (CHAIN, lambda n: n + 3),
    (DIAMOND, lambda n: (n + 2) + (n + 2) + 1),
    (RETRIED, lambda n: n + 2),
    (NESTED, lambda n: (n + 2) + 101 + 1),
]
"""Each with the output that is right for an input."""


IN_THREADS = {step["id"] for flow, _ in FLOWS for step in flow["steps"] if step["component"] == "/thread"}
"""Steps whose component is a plain function: it begins when a thread gets to it, not when it is handed out."""


def flow_of(job: int) -> dict[str, Any]:
    return FLOWS[job % len(FLOWS)][0]


def inputs_of(job: int) -> list[int]:
    return [job * 1_000 + n for n in range(3 + job % 11)]


def outputs_of(job: int) -> list[int]:
    right = FLOWS[job % len(FLOWS)][1]
    return [right(input) for input in inputs_of(job)]


def key_of(job: int) -> str:
    return f"job-{job}"


def components(ledger: Ledger) -> stepflow.Components:
    """Each writes to the ledger when it is called and before it returns."""
    app = stepflow.Components()

    def begin(ctx: stepflow.Context) -> float:
        ledger.began(ctx.run_id, ctx.item, ctx.step_id, ctx.attempt)
        drawn = zlib.crc32(f"{ctx.run_id} {ctx.item} {ctx.step_id} {ctx.attempt}".encode()) / 2**32
        return drawn * LONGEST_S

    def end(ctx: stepflow.Context, *, failed: bool = False) -> None:
        ledger.ended(ctx.run_id, ctx.item, ctx.step_id, ctx.attempt, failed=failed)

    @app.component("/work")
    async def work(value: int, ctx: stepflow.Context) -> int:
        await asyncio.sleep(begin(ctx))
        end(ctx)
        return value + 1

    @app.component("/thread")
    def thread(value: int, ctx: stepflow.Context) -> int:
        time.sleep(begin(ctx))
        end(ctx)
        return value + 1

    @app.component("/sum")
    async def add_up(values: list[int], ctx: stepflow.Context) -> int:
        await asyncio.sleep(begin(ctx))
        end(ctx)
        return sum(values) + 1

    @app.component("/flaky")
    async def flaky(value: int, ctx: stepflow.Context) -> int:
        await asyncio.sleep(begin(ctx))
        end(ctx, failed=ctx.attempt == 1)
        if ctx.attempt == 1:
            raise ComponentError("not at the first time")
        return value + 1

    return app
