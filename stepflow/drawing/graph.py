"""What a picture of a flow shows: its steps and conditions, and which value goes where."""

from collections.abc import Mapping
from typing import Literal as Choice
from typing import assert_never

import msgspec

from stepflow.flow.model import (
    ArrayOf,
    Coalesce,
    Expression,
    Flow,
    If,
    InputRef,
    Literal,
    ObjectOf,
    Path,
    Step,
    StepRef,
    VariableRef,
)

INPUT = "input"
OUTPUT = "output"
BUILTIN = "builtin"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    kind: Choice["input", "output", "step", "if", "coalesce", "missing"]
    label: str
    component: str = ""
    server: str = ""  # the first segment of the component's path
    note: str = ""
    tip: str = ""


class Edge(msgspec.Struct, frozen=True):
    source: str
    target: str
    label: str = ""  # where the value goes inside the consumer


class Graph(msgspec.Struct, frozen=True):
    """Nodes in the order of the document: input first, output last. At most one edge between two nodes."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph_of(flow: Flow, notes: Mapping[str, str] | None = None) -> Graph:
    """A step that is referenced but missing gets a node of its own, so an invalid flow can be drawn too."""
    drawing = _Tracer(flow)
    for index, step in enumerate(flow.steps):
        drawing.trace(step.input, _step_key(index), ())
        drawing.nodes.append(_step_node(index, step, (notes or {}).get(step.id, "")))
    drawing.trace(flow.output, OUTPUT, ())
    first = Node(key=INPUT, kind="input", label="input", tip=flow.name or "")
    last = Node(key=OUTPUT, kind="output", label="output")
    return Graph((first, *drawing.nodes, last), _merged(drawing.edges))


class _Tracer:
    def __init__(self, flow: Flow) -> None:
        self._steps: dict[str, int] = {}
        for index, step in enumerate(flow.steps):
            self._steps.setdefault(step.id, index)
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self._missing: set[str] = set()
        self._conditions = 0

    def trace(self, expression: Expression, consumer: str, at: Path, role: str = "") -> None:
        match expression:
            case Literal():
                pass
            case InputRef():
                self._connect(INPUT, consumer, at, role)
            case StepRef():
                self._connect(self._source(expression.step), consumer, at, role)
            case VariableRef():
                if expression.default is not None:
                    self.trace(expression.default, consumer, at, role)
            case If() | Coalesce():
                node = self._condition(expression, at)
                self._connect(node.key, consumer, at, role)
                self.nodes.append(node)
            case ArrayOf():
                for index, item in enumerate(expression.items):
                    self.trace(item, consumer, (*at, index), role)
            case ObjectOf():
                for name, value in expression.fields:
                    self.trace(value, consumer, (*at, name), role)
            case _:
                assert_never(expression)

    def _condition(self, expression: If | Coalesce, at: Path) -> Node:
        """A node below those that it draws from, so that all edges of a sound flow go down the list of nodes."""
        kind: Choice["if", "coalesce"] = "if" if isinstance(expression, If) else "coalesce"
        self._conditions += 1
        key = f"{kind}:{self._conditions}"
        if isinstance(expression, If):
            self.trace(expression.condition, key, (), "cond")
            self.trace(expression.then, key, (), "then")
            if expression.otherwise is not None:
                self.trace(expression.otherwise, key, (), "else")
        else:
            for index, choice in enumerate(expression.choices):
                self.trace(choice, key, (), str(index))
        return Node(key=key, kind=kind, label=kind, tip=f"${kind} at {_place(at) or 'the whole value'}")

    def _source(self, step: str) -> str:
        if step in self._steps:
            return _step_key(self._steps[step])
        key = f"missing:{step}"
        if step not in self._missing:
            self._missing.add(step)
            self.nodes.append(Node(key=key, kind="missing", label=step, tip=f"step {step!r} is not defined"))
        return key

    def _connect(self, source: str, target: str, at: Path, role: str) -> None:
        label = ":".join(part for part in (role, _place(at)) if part)
        self.edges.append(Edge(source, target, label))


def _step_key(index: int) -> str:
    return f"step:{index}"


def _step_node(index: int, step: Step, note: str) -> Node:
    tip = [f"component {step.component}"]
    if step.on_error is not None:
        tip.append(f"on error: {step.on_error.action}")
    if step.must_execute:
        tip.append("runs even when nothing uses it")
    return Node(
        key=_step_key(index),
        kind="step",
        label=step.id,
        component=step.component,
        server=_server(step.component),
        note=note,
        tip="\n".join(tip),
    )


def _server(component: str) -> str:
    """The first segment of a path that has more than one: below it, components belong together."""
    if not component.startswith("/"):
        return BUILTIN
    first, below, _ = component[1:].partition("/")
    return first if below else "/"


def _place(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _merged(edges: list[Edge]) -> tuple[Edge, ...]:
    labels: dict[tuple[str, str], list[str]] = {}
    for edge in edges:
        known = labels.setdefault((edge.source, edge.target), [])
        if edge.label and edge.label not in known:
            known.append(edge.label)
    return tuple(Edge(source, target, ", ".join(parts)) for (source, target), parts in labels.items())
