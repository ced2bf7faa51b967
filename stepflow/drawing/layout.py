"""Coordinates for a layered graph."""

from collections.abc import Mapping

import msgspec

from stepflow.drawing.columns import columns
from stepflow.drawing.layers import Bend, Layers, Vertex

_ROW_GAP = 22.0
_MARGIN = 24.0

Size = tuple[float, float]
Point = tuple[float, float]


class Layout(msgspec.Struct, frozen=True):
    """Centres and sizes of all vertices, and the top and bottom of their rows."""

    width: float
    height: float
    centres: dict[Vertex, Point]
    boxes: Mapping[Vertex, Size]
    spans: dict[Vertex, tuple[float, float]]


def arranged(layers: Layers, sizes: Mapping[Vertex, Size]) -> Layout:
    def gap(left: Vertex, right: Vertex) -> float:
        air = 14.0 if isinstance(left, Bend) or isinstance(right, Bend) else 28.0
        return (sizes[left][0] + sizes[right][0]) / 2 + air

    xs = columns(layers, gap)
    left = min(x - sizes[vertex][0] / 2 for vertex, x in xs.items())
    right = max(x + sizes[vertex][0] / 2 for vertex, x in xs.items())
    centres: dict[Vertex, Point] = {}
    spans: dict[Vertex, tuple[float, float]] = {}
    top = _MARGIN
    for row in layers.rows:
        height = max((sizes[vertex][1] for vertex in row), default=0.0)
        for vertex in row:
            centres[vertex] = (xs[vertex] - left + _MARGIN, top + height / 2)
            spans[vertex] = (top, top + height)
        top += height + _ROW_GAP
    return Layout(right - left + 2 * _MARGIN, top - _ROW_GAP + _MARGIN, centres, sizes, spans)
