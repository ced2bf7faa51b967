"""Strategies for valid flows, their inputs and their variables; and the components that they call."""

from functools import cache
from typing import Any

from hypothesis import strategies as st

import stepflow

COMPONENTS = {
    "/echo": lambda step, input, attempt: ("ok", input),
    "/wrap": lambda step, input, attempt: ("ok", {"a": input, "b": [input, step]}),
    "/null": lambda step, input, attempt: ("ok", None),
    "/fail": lambda step, input, attempt: ("failed", ("COMPONENT_FAILED", step)),
    "/refuse": lambda step, input, attempt: ("failed", ("INVALID_INPUT", step)),
    "/late": lambda step, input, attempt: ("failed", ("TIMEOUT", step)),
    "/moody": lambda step, input, attempt: [
        ("failed", ("UNREACHABLE", step)),
        ("failed", ("COMPONENT_FAILED", step)),
        ("ok", input),
    ][(attempt - 1) % 3],
    "/third": lambda step, input, attempt: (
        ("ok", {"a": attempt}) if attempt >= 3 else ("failed", ("RESOURCE_UNAVAILABLE", step))
    ),
}

KEYS = ("a", "b", "c")

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "false", "$.a", "ü"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
paths = st.lists(st.sampled_from([".a", ".b", "[0]", "[1]"]), max_size=2).map(lambda parts: "$" + "".join(parts))
components = st.sampled_from(sorted(COMPONENTS))
names = st.sampled_from(["given", "missing"])
chances = st.integers(0, 4)
variables = st.dictionaries(st.sampled_from(["given", "other"]), values, max_size=2)


@cache
def expressions(steps: tuple[str, ...], depth: int = 2) -> st.SearchStrategy[Any]:
    """Expressions over the input, the variables and these steps. Made once: making one takes longer than a run."""
    constants = st.one_of(
        scalars,
        values.map(lambda value: {"$literal": value}),
        paths.map(lambda path: {"$input": path}),
        st.builds(lambda name, path: {"$variable": f"$.{name}{path[1:]}"}, names, paths),
    )
    if not steps:
        leaves = constants
    else:
        whole = st.sampled_from(steps).map(lambda step: {"$step": step})
        part = st.builds(lambda step, path: {"$step": step, "path": path}, st.sampled_from(steps), paths)
        leaves = st.one_of(whole, whole, part, constants)
    if depth == 0:
        return leaves
    inner = expressions(steps, depth - 1)
    return st.one_of(leaves, *_compounds(inner))


def _compounds(inner: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Any]]:
    return [
        st.lists(inner, min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(KEYS), inner, min_size=1, max_size=3),
        st.builds(lambda test, then: {"$if": test, "then": then}, inner, inner),
        st.builds(lambda test, then, other: {"$if": test, "then": then, "else": other}, inner, inner, inner),
        st.lists(inner, max_size=3).map(lambda choices: {"$coalesce": choices}),
        st.builds(lambda first, second: {"$coalesce": [first, second]}, inner, inner),
        st.builds(lambda default: {"$variable": "$.missing", "default": default}, inner),
    ]


on_errors = st.one_of(
    st.none(),
    st.just({"action": "fail"}),
    values.map(lambda value: {"action": "useDefault", "defaultValue": value}),
    st.integers(0, 2).map(lambda count: {"action": "useDefault", "maxRetries": count}),
    st.integers(0, 3).map(lambda count: {"action": "retry", "maxRetries": count}),
    st.just({"action": "retry"}),
)


@st.composite
def flows(draw: st.DrawFn, max_steps: int = 6) -> dict[str, Any]:
    """A flow that is valid and whose steps refer to earlier ones."""
    steps: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, max_steps))):
        known = tuple(step["id"] for step in steps)
        step: dict[str, Any] = {"id": f"s{index}", "component": draw(components), "input": draw(expressions(known))}
        if (on_error := draw(on_errors)) is not None:
            step["onError"] = on_error
        if draw(chances) == 0:
            step["mustExecute"] = True
        steps.append(step)
    known = tuple(step["id"] for step in steps)
    return {"steps": steps, "output": draw(st.lists(expressions(known, 3), min_size=1, max_size=4))}


def play(path: str, step: str, input: Any, attempt: int) -> tuple[str, Any]:
    """What a component answers, for the model and for the registry below."""
    return COMPONENTS[path](step, input, attempt)


def registry(calls: list[tuple[int, str, int]]) -> stepflow.Components:
    """The components, which note each call as (item, step id, attempt). Some are async, some run in threads."""
    app = stepflow.Components()

    def answer(path: str, input: Any, ctx: stepflow.Context) -> Any:
        calls.append((ctx.item, ctx.step_id, ctx.attempt))
        kind, value = play(path, ctx.step_id, input, ctx.attempt)
        if kind == "failed":
            raise stepflow.ComponentError(value[1], code=stepflow.ErrorCode(value[0]))
        return value

    for path in COMPONENTS:
        app.component(path)(_component(path, answer))
    return app


def _component(path: str, answer: Any) -> Any:
    async def on_loop(input: Any, ctx: stepflow.Context) -> Any:
        return answer(path, input, ctx)

    def in_thread(input: Any, ctx: stepflow.Context) -> Any:
        return answer(path, input, ctx)

    return in_thread if path == "/null" else on_loop
