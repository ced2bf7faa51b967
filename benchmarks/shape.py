"""The one shape of work that is compared: items through a chain of no-op steps, each input an expression."""

from typing import Any


def chain(steps: int, component: str) -> dict[str, Any]:
    """A flow whose steps hand `{"n": …}` on from the item to the output."""
    first = {"id": "s0", "component": component, "input": {"n": {"$input": "n"}}}
    rest = [
        {"id": f"s{index}", "component": component, "input": {"n": {"$step": f"s{index - 1}", "path": "n"}}}
        for index in range(1, steps)
    ]
    return {
        "name": "chain",
        "description": "No-op steps in a row",
        "steps": [first, *rest],
        "output": {"$step": f"s{steps - 1}"},
    }
