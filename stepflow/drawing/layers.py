"""Layers of a directed graph: which row each node stands on, and in which order within the row.

The method is Sugiyama's: rank by longest path, put a bend on every row that a long edge crosses, then sweep up and
down, sorting each row by where its neighbours stand. Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual
Understanding of Hierarchical System Structures", IEEE Trans. SMC 11(2), 1981.
"""

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from stepflow.drawing.graph import OUTPUT, Edge, Graph

_SWEEPS = 16


class Bend(msgspec.Struct, frozen=True):
    """Where an edge passes a row. Edges of one source share their bends, up to the row above the consumer."""

    source: str
    row: int
    target: str | None = None  # set on the row above the consumer, where the label stands


Vertex = str | Bend


class Layers(msgspec.Struct, frozen=True):
    rows: tuple[tuple[Vertex, ...], ...]  # nodes on even rows, labels on odd ones
    links: tuple[tuple[Vertex, Vertex], ...]  # between neighbouring rows, upper end first
    labels: dict[Bend, str]


def layered(graph: Graph) -> Layers:
    edges = _forward(graph)
    ranks = _ranks(graph, edges)
    rows: list[dict[Vertex, None]] = [{} for _ in range(max(ranks.values()) + 1)]
    for node in graph.nodes:
        rows[ranks[node.key]][node.key] = None
    links: dict[tuple[Vertex, Vertex], None] = {}
    labels: dict[Bend, str] = {}
    for edge in edges:
        chain = _chain(edge, ranks)
        if edge.label:
            labels[_last_bend(chain)] = edge.label
        links.update(dict.fromkeys(pairwise(chain)))
        for vertex in chain[1:-1]:
            if isinstance(vertex, Bend):
                rows[vertex.row][vertex] = None
    pairs = tuple(links)
    return Layers(_untangled([list(row) for row in rows], pairs), pairs, labels)


def _forward(graph: Graph) -> list[Edge]:
    """Edges that go down the document. A reference upwards (an invalid flow) is turned, so that no ring is left."""
    place = {node.key: index for index, node in enumerate(graph.nodes)}
    turned = [
        edge if place[edge.source] < place[edge.target] else Edge(edge.target, edge.source, edge.label)
        for edge in graph.edges
        if edge.source != edge.target
    ]
    return sorted(turned, key=lambda edge: place[edge.source])


def _ranks(graph: Graph, edges: Sequence[Edge]) -> dict[str, int]:
    """Even numbers from 0. Conditions stand right above what they feed, the output below everything."""
    ranks = {node.key: 2 for node in graph.nodes}
    ranks[graph.nodes[0].key] = 0
    for edge in edges:
        ranks[edge.target] = max(ranks[edge.target], ranks[edge.source] + 2)
    ranks[OUTPUT] = max(2, *(rank + 2 for key, rank in ranks.items() if key != OUTPUT))
    below: dict[str, list[str]] = {}
    for edge in edges:
        below.setdefault(edge.source, []).append(edge.target)
    for node in reversed(graph.nodes):
        if node.kind in ("if", "coalesce", "missing") and node.key in below:
            ranks[node.key] = min(ranks[key] for key in below[node.key]) - 2
    return ranks


def _chain(edge: Edge, ranks: Mapping[str, int]) -> list[Vertex]:
    top, bottom = ranks[edge.source], ranks[edge.target]
    bends: list[Vertex] = [Bend(edge.source, row) for row in range(top + 1, bottom - 1)]
    return [edge.source, *bends, Bend(edge.source, bottom - 1, edge.target), edge.target]


def _last_bend(chain: Sequence[Vertex]) -> Bend:
    bend = chain[-2]
    assert isinstance(bend, Bend)
    return bend


def _untangled(rows: list[list[Vertex]], links: Sequence[tuple[Vertex, Vertex]]) -> tuple[tuple[Vertex, ...], ...]:
    above: dict[Vertex, list[Vertex]] = {}
    below: dict[Vertex, list[Vertex]] = {}
    for upper, lower in links:
        below.setdefault(upper, []).append(lower)
        above.setdefault(lower, []).append(upper)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        down = sweep % 2 == 0
        _sort_rows(rows if down else rows[::-1], above if down else below)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return tuple(tuple(row) for row in best)


def _sort_rows(rows: Sequence[list[Vertex]], neighbours: Mapping[Vertex, Sequence[Vertex]]) -> None:
    """Sort every row but the first by the middle of its neighbours in the row before; who has none keeps its place."""
    for previous, row in pairwise(rows):
        place = {vertex: index / max(1, len(previous) - 1) for index, vertex in enumerate(previous)}
        own = {vertex: index / max(1, len(row) - 1) for index, vertex in enumerate(row)}
        wanted = {
            vertex: sum(place[other] for other in neighbours[vertex]) / len(neighbours[vertex])
            if vertex in neighbours
            else own[vertex]
            for vertex in row
        }
        row.sort(key=lambda vertex: (wanted[vertex], own[vertex]))


def _crossings(rows: Sequence[Sequence[Vertex]], below: Mapping[Vertex, Sequence[Vertex]]) -> int:
    """Pairs of links that cross, counted as inversions of the lower ends read in the order of the upper ones."""
    total = 0
    for upper, lower in pairwise(rows):
        place = {vertex: index for index, vertex in enumerate(lower)}
        seen: list[int] = []
        for vertex in upper:
            ends = sorted(place[other] for other in below.get(vertex, ()))
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total
