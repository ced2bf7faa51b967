"""Where the vertices of a layered graph stand from left to right: long links run straight, nothing overlaps.

Vertices are aligned with the middle one of their neighbours into upright blocks, and the blocks are pushed together;
done from all four corners, the middle of the four answers is taken. Source: U. Brandes, B. Köpf, "Fast and Simple
Horizontal Coordinate Assignment", Graph Drawing 2001.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from stepflow.drawing.graph import INPUT
from stepflow.drawing.layers import Bend, Layers, Vertex

Gap = Callable[[Vertex, Vertex], float]
Links = Mapping[Vertex, Sequence[Vertex]]
Pairs = Mapping[tuple[Vertex, Vertex], None]


def columns(layers: Layers, gap: Gap) -> dict[Vertex, float]:
    """`gap` says how far apart the middles of two neighbours in a row must stand."""
    above, below = _neighbours(layers)
    unwanted = _unwanted(layers, above, below)
    answers = []
    for rows, links in ((layers.rows, above), (layers.rows[::-1], below)):
        for mirrored in (False, True):
            turned = [row[::-1] for row in rows] if mirrored else rows
            blocks = _blocks(turned, links, unwanted)
            xs = _pushed(turned, blocks, gap)
            answers.append({vertex: -x for vertex, x in xs.items()} if mirrored else xs)
    return _balanced(answers)


def _neighbours(layers: Layers) -> tuple[dict[Vertex, list[Vertex]], dict[Vertex, list[Vertex]]]:
    above: dict[Vertex, list[Vertex]] = {}
    below: dict[Vertex, list[Vertex]] = {}
    for upper, lower in layers.links:
        below.setdefault(upper, []).append(lower)
        above.setdefault(lower, []).append(upper)
    return above, below


def _unwanted(layers: Layers, above: Links, below: Links) -> dict[tuple[Vertex, Vertex], None]:
    """Links that give way: those that cross a long link, those that leave it where it goes on, and those from the
    input to a step that uses other steps too."""
    given = dict.fromkeys((upper, lower) for upper, lower in layers.links if _is_aside(upper, lower, above))
    for upper_row, lower_row in pairwise(layers.rows):
        place = {vertex: index for index, vertex in enumerate(lower_row)}
        links = [
            (index, place[lower], upper, lower)
            for index, upper in enumerate(upper_row)
            for lower in below.get(upper, ())
        ]
        long = [(top, bottom, upper) for top, bottom, upper, lower in links if _is_long(upper, lower)]
        going_on = {upper: None for _, _, upper in long}
        for top, bottom, upper, lower in links:
            if _is_long(upper, lower):
                continue
            if upper in going_on or any((top - one) * (bottom - other) < 0 for one, other, _ in long):
                given[upper, lower] = None
    return given


def _is_aside(upper: Vertex, lower: Vertex, above: Links) -> bool:
    return (
        isinstance(upper, Bend)
        and not isinstance(lower, Bend)
        and upper.source == INPUT
        and any(isinstance(other, Bend) and other.source != INPUT for other in above[lower])
    )


def _is_long(upper: Vertex, lower: Vertex) -> bool:
    return isinstance(upper, Bend) and isinstance(lower, Bend) and lower.target is None


def _blocks(rows: Sequence[Sequence[Vertex]], links: Links, unwanted: Pairs) -> dict[Vertex, Vertex]:
    """The root of the block that each vertex belongs to."""
    root = {vertex: vertex for row in rows for vertex in row}
    place = {vertex: index for row in rows for index, vertex in enumerate(row)}
    for row in rows:
        taken = -1
        for vertex in row:
            linked = [other for other in links.get(vertex, ()) if not _either(vertex, other, unwanted)]
            others = sorted(linked, key=place.__getitem__)
            for other in others[(len(others) - 1) // 2 : len(others) // 2 + 1]:
                if root[vertex] == vertex and place[other] > taken:
                    root[vertex] = root[other]
                    taken = place[other]
    return root


def _either(one: Vertex, other: Vertex, pairs: Pairs) -> bool:
    return (one, other) in pairs or (other, one) in pairs


def _pushed(rows: Sequence[Sequence[Vertex]], root: Mapping[Vertex, Vertex], gap: Gap) -> dict[Vertex, float]:
    """Blocks as far to the left as their neighbours allow, then back to the right as far as those leave room."""
    apart: dict[Vertex, dict[Vertex, float]] = {block: {} for block in root.values()}  # block: its right neighbours
    for row in rows:
        for left, right in pairwise(row):
            known = apart[root[left]].get(root[right], 0.0)
            apart[root[left]][root[right]] = max(known, gap(left, right))
    order = _left_to_right(apart)
    xs = dict.fromkeys(order, 0.0)
    for block in order:
        for right, distance in apart[block].items():
            xs[right] = max(xs[right], xs[block] + distance)
    for block in reversed(order):
        if apart[block]:
            xs[block] = max(xs[block], min(xs[right] - distance for right, distance in apart[block].items()))
    return {vertex: xs[block] for vertex, block in root.items()}


def _left_to_right(apart: Mapping[Vertex, Mapping[Vertex, float]]) -> list[Vertex]:
    waiting = dict.fromkeys(apart, 0)
    for rights in apart.values():
        for right in rights:
            waiting[right] += 1
    order = [block for block, count in waiting.items() if count == 0]
    for block in order:
        for right in apart[block]:
            waiting[right] -= 1
            if waiting[right] == 0:
                order.append(right)
    return order


def _balanced(answers: Sequence[Mapping[Vertex, float]]) -> dict[Vertex, float]:
    """The middle of the answers, each first moved to an edge of the narrowest: from the left two to its left edge."""
    edges = [(min(answer.values()), max(answer.values())) for answer in answers]
    left, right = min(edges, key=lambda edge: edge[1] - edge[0])
    shifts = [left - low if index % 2 == 0 else right - high for index, (low, high) in enumerate(edges)]
    middle = {}
    for vertex in answers[0]:
        found = sorted(answer[vertex] + shift for answer, shift in zip(answers, shifts, strict=True))
        middle[vertex] = (found[1] + found[2]) / 2
    return middle
