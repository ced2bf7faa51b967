"""What a flow means, by recursion: no scheduler, no state, no events. Written from the language's definition alone."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Result = tuple[str, Any]  # ("ok", value) or ("failed", (code, message))

EXPRESSION = ("failed", ("EXPRESSION_FAILURE", None))  # the text of an expression's failure is not part of the model
RETRIED = {
    "TIMEOUT": "transport",
    "UNREACHABLE": "transport",
    "COMPONENT_FAILED": "component",
    "RESOURCE_UNAVAILABLE": "component",
}
PARTS = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]")


class Item:
    """One input on its way through a flow. A step is played when somebody first needs its result."""

    def __init__(
        self,
        flow: Mapping[str, Any],
        input: Any,
        variables: Mapping[str, Any],
        component: Callable[[str, str, Any, int], Result],
    ) -> None:
        self.steps = {step["id"]: step for step in flow.get("steps", [])}
        self.input = input
        self.variables = variables
        self.component = component  # (path, step id, input, attempt) -> result
        self.ended: dict[str, Result] = {}
        self.dispatched: list[tuple[str, int]] = []  # (step id, attempt)
        for step in self.steps.values():
            if step.get("mustExecute"):
                self.step(step["id"])
        self.result = self.value(flow.get("output"))

    def step(self, id: str) -> Result:
        if id not in self.ended:
            self.ended[id] = self.play(self.steps[id])
        return self.ended[id]

    def play(self, step: Mapping[str, Any]) -> Result:
        input = self.value(step.get("input"))
        if input[0] == "failed":
            return input
        on_error = step.get("onError", {})
        action = on_error.get("action", "fail")
        left = {"transport": 3, "component": on_error.get("maxRetries", 3 if action == "retry" else 0)}
        attempt = 0
        while True:
            attempt += 1
            self.dispatched.append((step["id"], attempt))
            result = self.component(step["component"], step["id"], input[1], attempt)
            kind = RETRIED.get(result[1][0]) if result[0] == "failed" else None
            if kind is None or left[kind] == 0:
                break
            left[kind] -= 1
        if result[0] == "failed" and action == "useDefault":
            return "ok", on_error.get("defaultValue")
        return result

    def value(self, expression: Any) -> Result:
        match expression:
            case {"$literal": value}:
                return "ok", value
            case {"$if": condition}:
                tested = self.value(condition)
                holds = tested[0] == "ok" and tested[1] is not None and tested[1] is not False
                return self.value(expression["then"] if holds else expression.get("else"))
            case {"$coalesce": choices}:
                for choice in choices:
                    result = self.value(choice)
                    if result != ("ok", None):
                        return result
                return "ok", None
            case {"$step": id}:
                result = self.step(id)
                return result if result[0] == "failed" or result[1] is None else at(result[1], expression.get("path"))
            case {"$input": path}:
                return at(self.input, path)
            case {"$variable": path}:
                return self.variable(path, expression)
            case list():
                return whole([self.value(item) for item in expression], list)
            case dict():
                results = [self.value(item) for item in expression.values()]
                return whole(results, lambda values: dict(zip(expression, values, strict=True)))
            case _:
                return "ok", expression

    def variable(self, path: str, expression: Mapping[str, Any]) -> Result:
        found = at(dict(self.variables), path)
        return self.value(expression["default"]) if found[0] == "failed" and "default" in expression else found


def whole(results: list[Result], make: Callable[[list[Any]], Any]) -> Result:
    """Every part is needed, whatever became of the others; the first failure is that of the whole."""
    failed = [result for result in results if result[0] == "failed"]
    return failed[0] if failed else ("ok", make([value for _, value in results]))


def at(value: Any, path: str | None) -> Result:
    for name, index in PARTS.findall(path or "$"):
        if name:
            if not isinstance(value, dict) or name not in value:
                return EXPRESSION
            value = value[name]
        else:
            if not isinstance(value, list) or int(index) >= len(value):
                return EXPRESSION
            value = value[int(index)]
    return "ok", value
