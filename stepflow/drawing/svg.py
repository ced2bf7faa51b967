"""A flow as an SVG picture: one element without references to anything outside, so it may stand inside an HTML page."""

from collections.abc import Mapping
from html import escape
from typing import assert_never

from stepflow.drawing.graph import graph_of
from stepflow.drawing.scene import PAPER, Box, Curve, Paint, Polygon, Scene, Shape, Text, scene_of
from stepflow.flow.model import Flow

_FONT = "Inter, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"


def draw_svg(
    flow: Flow,
    *,
    servers: bool = True,
    details: bool = True,
    notes: Mapping[str, str] | None = None,
    paints: Mapping[str, Paint] | None = None,
) -> str:
    """`notes` adds a line under a step's label, by step id: counts, a median. `paints` gives it fill and border."""
    title = flow.name or "flow"
    return svg_of(scene_of(graph_of(flow, notes), title=title, servers=servers, details=details, paints=paints))


def svg_of(scene: Scene) -> str:
    width, height = _number(scene.width), _number(scene.height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' role="img" font-family="{_FONT}"><title>{_text(scene.title)}</title>'
        f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>'
    )
    return "\n".join([head, *map(_element, scene.shapes), "</svg>\n"])


def _element(shape: Shape) -> str:
    match shape:
        case Box():
            dash = ' stroke-dasharray="5 4"' if shape.dashed else ""
            return (
                f'<rect x="{_number(shape.x)}" y="{_number(shape.y)}" width="{_number(shape.width)}"'
                f' height="{_number(shape.height)}" rx="{_number(shape.radius)}" fill="{shape.fill}"'
                f' stroke="{shape.stroke}" stroke-width="1.4"{dash}{_closed("rect", shape.tip)}'
            )
        case Polygon():
            points = " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.points)
            return (
                f'<polygon points="{points}" fill="{shape.fill}" stroke="{shape.stroke}" stroke-width="1.4"'
                f' stroke-linejoin="round"{_closed("polygon", shape.tip)}'
            )
        case Curve():
            return f'<path d="{_path(shape)}" fill="none" stroke="{shape.stroke}" stroke-width="1.4"/>'
        case Text():
            weight = ' font-weight="600"' if shape.bold else ""
            anchor = "" if shape.start else ' text-anchor="middle"'
            return (
                f'<text x="{_number(shape.x)}" y="{_number(shape.y + shape.size * 0.35)}"{anchor}'
                f' font-size="{_number(shape.size)}"{weight} fill="{shape.fill}" pointer-events="none">'
                f"{_text(shape.text)}</text>"
            )
        case _:
            assert_never(shape)


def _path(curve: Curve) -> str:
    (x, y), (to_x, to_y) = curve.start, curve.end
    middle = _number((y + to_y) / 2)
    if abs(x - to_x) < 0.05:
        return f"M{_number(x)},{_number(y)}V{_number(to_y)}"
    return f"M{_number(x)},{_number(y)}C{_number(x)},{middle} {_number(to_x)},{middle} {_number(to_x)},{_number(to_y)}"


def _closed(tag: str, tip: str) -> str:
    return f"><title>{_text(tip)}</title></{tag}>" if tip else "/>"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    """XML has no escape for control characters and lone surrogates: they are shown as a box."""
    shown = "".join(c if c in "\n\t" or (c.isprintable() and not "\ud800" <= c <= "\udfff") else "□" for c in text)
    return escape(shown)
