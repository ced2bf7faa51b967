"""The shapes of work that are cut at every write, and components that notice what should not happen."""

from collections.abc import Callable
from typing import Any

from stepflow.components import Components, Context
from stepflow.errors import ComponentError
from stepflow.execution.events import StepSucceeded, decode_events
from stepflow.protocols import Backend


def _work(step: str, source: Any, component: str = "/work", **more: Any) -> dict[str, Any]:
    return {"id": step, "component": component, "input": source, **more}


_INPUT = {"$input": "$"}
_RETRY = {"action": "retry", "maxRetries": 9, "backoff": {"type": "constant", "delayMs": 10}}

SEQUENCE = {
    "steps": [_work("a", _INPUT), _work("b", {"$step": "a"}), _work("c", {"$step": "b"})],
    "output": {"$step": "c"},
}
DIAMOND = {
    "steps": [
        _work("top", _INPUT),
        _work("left", {"$step": "top"}),
        _work("right", {"$step": "top"}),
        _work("end", [{"$step": "left"}, {"$step": "right"}]),
    ],
    "output": {"$step": "end"},
}
BATCH = {
    "steps": [_work("first", _INPUT), _work("second", {"$step": "first"})],
    "output": {"$step": "second"},
}
RETRIED = {"steps": [_work("flaky", _INPUT, "/flaky", onError=_RETRY)], "output": {"$step": "flaky"}}
INNER = {"steps": [_work("inner", _INPUT)], "output": {"$step": "inner"}}
NESTED = {
    "steps": [
        _work("map", {"workflow": {"$literal": INNER}, "items": [_INPUT, 8]}, "/builtin/map"),
        _work("last", {"$step": "map", "path": "results"}),
    ],
    "output": {"$step": "last"},
}

FLOWS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "sequence": (SEQUENCE, [1]),
    "diamond": (DIAMOND, [1, 2]),
    "batch": (BATCH, list(range(9))),
    "retries": (RETRIED, [1]),
    "sub-runs": (NESTED, [7]),
}
"""Each with its inputs."""

_STEPS = {step["id"]: index for flow, _ in (*FLOWS.values(), (INNER, [])) for index, step in enumerate(flow["steps"])}


class Watched:
    """Components that note when a step runs whose success the store holds."""

    def __init__(self, store: Callable[[], Backend]) -> None:
        self.components = Components()
        self.twice: list[str] = []
        self._store = store

        @self.components.component("/work")
        async def work(value: Any, ctx: Context) -> Any:
            await self._check(ctx)
            return value

        @self.components.component("/flaky")
        async def flaky(value: Any, ctx: Context) -> Any:
            await self._check(ctx)
            if ctx.attempt < 3:
                raise ComponentError("not yet")
            return value

    async def _check(self, ctx: Context) -> None:
        step = _STEPS[ctx.step_id]
        for row in await self._store().journal.history(ctx.run_id):
            for event in decode_events(row.payload):
                if isinstance(event, StepSucceeded) and (event.item, event.step) == (ctx.item, step):
                    self.twice.append(f"{ctx.run_id}, item {ctx.item}, step {ctx.step_id}")
