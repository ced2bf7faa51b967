"""A flow's picture as shapes in the order they are painted; the writers only spell them."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias
from zlib import crc32

import msgspec

from stepflow.drawing.graph import Graph, Node
from stepflow.drawing.layers import Bend, Layers, Vertex, layered
from stepflow.drawing.layout import Layout, Point, Size, arranged

INK = "#0f172a"
PALE_INK = "#475569"
LINE = "#94a3b8"
PAPER = "#ffffff"

Paint: TypeAlias = tuple[str, str]
"""Of a node: fill and border."""

_PLAIN = ("#dbeafe", "#3b82f6")
_PALETTE = (  # fill and border of one server each
    ("#e0f2fe", "#0891c7"),
    ("#ecfccb", "#6aa313"),
    ("#fae8ff", "#c03ad4"),
    _PLAIN,
    ("#dcfce7", "#22a155"),
    ("#fef3c7", "#d99a06"),
    ("#fce7f3", "#db4a94"),
    ("#ede9fe", "#8b5cf6"),
    ("#ccfbf1", "#0f9f90"),
    ("#ffedd5", "#ea7317"),
)
_KINDS = {
    "input": ("#e2e8f0", "#64748b"),
    "output": ("#e2e8f0", "#64748b"),
    "if": ("#f8fafc", "#64748b"),
    "coalesce": ("#f8fafc", "#64748b"),
    "missing": ("#fee2e2", "#dc2626"),
}
_TITLE, _LINE, _LABEL = 13.0, 11.0, 10.0
_LONGEST = 34  # characters of a label before it is shortened
_LEGEND = 30.0


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A rounded rectangle; `tip` is shown when the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str
    stroke: str
    dashed: bool = False
    tip: str = ""


class Polygon(msgspec.Struct, frozen=True, kw_only=True):
    points: tuple[Point, ...]
    fill: str
    stroke: str
    tip: str = ""


class Curve(msgspec.Struct, frozen=True):
    """From one point down to another, leaving and arriving upright."""

    start: Point
    end: Point
    stroke: str = LINE


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Centred on `x` (or starting there), its middle at `y`."""

    x: float
    y: float
    text: str
    size: float
    bold: bool = False
    fill: str = INK
    start: bool = False


Shape = Box | Polygon | Curve | Text


class Scene(msgspec.Struct, frozen=True):
    title: str
    width: float
    height: float
    shapes: tuple[Shape, ...]


def scene_of(
    graph: Graph,
    *,
    title: str,
    servers: bool = True,
    details: bool = True,
    paints: Mapping[str, Paint] | None = None,
) -> Scene:
    """`servers` shows component paths and colours, `details` what stands behind a label (SVG shows it on hovering).

    `paints` gives steps colours by their ids; the colours of servers and their legend are left out then.
    """
    layers = layered(graph)
    texts = {node.key: _lines(node, servers=servers) for node in graph.nodes}
    layout = arranged(layers, _sizes(graph, layers, texts))
    colours = _colours(graph) if servers and paints is None else {}
    shapes: list[Shape] = [*_links(layers, layout)]
    for node in graph.nodes:
        paint = (paints or {}).get(node.label) if node.kind == "step" else None
        paint = paint or _paint(node, colours)
        shapes += _node(node, layout, texts[node.key], paint, tip=node.tip if details else "")
    legend = list(_legend(colours, layout))
    width = max(
        [layout.width, *(shape.x + measure(shape.text, _LINE) + 24 for shape in legend if isinstance(shape, Text))]
    )
    return Scene(title, width, layout.height + (_LEGEND if legend else 0.0), (*shapes, *legend))


def measure(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a sans-serif font sets a text; on the generous side, since the reader's font is unknown."""
    return sum(_advance(character) for character in text) * size * (1.08 if bold else 1.0)


def _advance(character: str) -> float:
    if character in "iljtfrI.,:;'|!()[]{}/\\ -\"":
        return 0.4
    if character in "mwMW@%":
        return 0.94
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.7 if character.isupper() else 0.62


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The beginning and the end of a text that is too long to show."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def _lines(node: Node, *, servers: bool) -> tuple[Text, ...]:
    """The texts of a node, placed from its middle; one below the other."""
    rows = [(shortened(node.label), _TITLE if node.kind != "coalesce" else _LINE, node.kind == "step", INK)]
    if node.component and servers:
        rows.append((shortened(node.component), _LINE, False, PALE_INK))
    if node.note:
        rows.append((shortened(node.note), _LINE, False, INK))
    step = 16.0
    top = -(len(rows) - 1) * step / 2
    return tuple(
        Text(x=0, y=top + index * step, text=text, size=size, bold=bold, fill=fill)
        for index, (text, size, bold, fill) in enumerate(rows)
    )


def _sizes(graph: Graph, layers: Layers, texts: Mapping[str, Sequence[Text]]) -> dict[Vertex, Size]:
    sizes: dict[Vertex, Size] = {vertex: (2.0, 0.0) for row in layers.rows for vertex in row}
    for bend, label in layers.labels.items():
        sizes[bend] = (measure(shortened(label, 24), _LABEL) + 6, 13.0)
    for node in graph.nodes:
        widest = max(measure(line.text, line.size, bold=line.bold) for line in texts[node.key])
        if node.kind in ("if", "coalesce"):
            sizes[node.key] = (widest + 44, 40.0)
        else:
            sizes[node.key] = (max(64.0, widest + 28), 18.0 + 16.0 * len(texts[node.key]))
    return sizes


def _colours(graph: Graph) -> dict[str, Paint]:
    """By name, so that a server has the same colour in other flows, unless another one of this flow has it."""
    colours: dict[str, Paint] = {}
    for server in dict.fromkeys(node.server for node in graph.nodes if node.server):
        first = crc32(server.encode(errors="replace"))
        wanted = [_PALETTE[(first + step) % len(_PALETTE)] for step in range(len(_PALETTE))]
        colours[server] = next((colour for colour in wanted if colour not in colours.values()), wanted[0])
    return colours


def fills(graph: Graph, *, servers: bool = True) -> dict[str, str]:
    """The colour of each node by its key."""
    colours = _colours(graph) if servers else {}
    return {node.key: _paint(node, colours)[0] for node in graph.nodes}


def _paint(node: Node, colours: Mapping[str, Paint]) -> Paint:
    return colours.get(node.server) or _KINDS.get(node.kind, _PLAIN)


def _node(node: Node, layout: Layout, lines: Sequence[Text], paint: Paint, *, tip: str) -> Iterator[Shape]:
    x, y = layout.centres[node.key]
    width, height = layout.boxes[node.key]
    fill, stroke = paint
    if node.kind in ("if", "coalesce"):
        corners = ((x, y - height / 2), (x + width / 2, y), (x, y + height / 2), (x - width / 2, y))
        yield Polygon(points=corners, fill=fill, stroke=stroke, tip=tip)
    else:
        radius = height / 2 if node.kind in ("input", "output") else 8.0
        yield Box(
            x=x - width / 2,
            y=y - height / 2,
            width=width,
            height=height,
            radius=radius,
            fill=fill,
            stroke=stroke,
            dashed=node.kind == "missing",
            tip=tip,
        )
    for line in lines:
        yield msgspec.structs.replace(line, x=x, y=y + line.y)


def _links(layers: Layers, layout: Layout) -> Iterator[Shape]:
    """Upright within a row, curved between two, so that no link touches a node that is not its own."""
    ports = _ports(layers, layout)
    sources = dict.fromkeys(upper for upper, _ in layers.links)
    for vertex, (top, bottom) in layout.spans.items():
        x, y = layout.centres[vertex]
        if isinstance(vertex, Bend):
            yield Curve((x, top), (x, bottom))
        elif vertex in sources:
            yield Curve((x, y + layout.boxes[vertex][1] / 2), (x, bottom))
    for upper, lower in layers.links:
        start = (layout.centres[upper][0], layout.spans[upper][1])
        if isinstance(lower, Bend):
            yield Curve(start, (layout.centres[lower][0], layout.spans[lower][0]))
        else:
            yield from _arrival(start, ports[upper, lower], layout.spans[lower][0])
    yield from _labels(layers, layout)


def _arrival(start: Point, port: Point, row_top: float) -> Iterator[Shape]:
    x, y = port
    yield Curve(start, (x, row_top - 5))
    yield Curve((x, row_top - 5), (x, y - 5))
    yield Polygon(points=((x - 3.6, y - 7.5), (x + 3.6, y - 7.5), (x, y - 0.5)), fill=LINE, stroke=LINE)


def _labels(layers: Layers, layout: Layout) -> Iterator[Shape]:
    for bend, label in layers.labels.items():
        x, y = layout.centres[bend]
        text = shortened(label, 24)
        width = measure(text, _LABEL)
        yield Box(x=x - width / 2 - 2, y=y - 6.5, width=width + 4, height=13, radius=3, fill=PAPER, stroke=PAPER)
        yield Text(x=x, y=y, text=text, size=_LABEL, fill=PALE_INK)


def _ports(layers: Layers, layout: Layout) -> dict[tuple[Vertex, Vertex], Point]:
    """Where each link meets its consumer: side by side along its upper edge, in the order they come in."""
    arriving: dict[Vertex, list[Vertex]] = {}
    for upper, lower in layers.links:
        if not isinstance(lower, Bend):
            arriving.setdefault(lower, []).append(upper)
    ports: dict[tuple[Vertex, Vertex], Point] = {}
    for lower, uppers in arriving.items():
        x, y = layout.centres[lower]
        width, height = layout.boxes[lower]
        diamond = str(lower).startswith(("if:", "coalesce:"))
        room = 0.0 if diamond else min(22.0, (width - 24) / len(uppers))
        uppers.sort(key=lambda vertex: layout.centres[vertex][0])
        for index, upper in enumerate(uppers):
            ports[upper, lower] = (x + (index - (len(uppers) - 1) / 2) * room, y - height / 2)
    return ports


def _legend(colours: Mapping[str, Paint], layout: Layout) -> Iterator[Shape]:
    if len(colours) < 2:
        return
    x, y = 24.0, layout.height + _LEGEND / 2 - 8
    for server, (fill, stroke) in colours.items():
        text = shortened(server, 24)
        yield Box(x=x, y=y - 6, width=12, height=12, radius=3, fill=fill, stroke=stroke)
        yield Text(x=x + 18, y=y, text=text, size=_LINE, fill=PALE_INK, start=True)
        x += 18 + measure(text, _LINE) + 20
