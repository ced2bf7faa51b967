"""Nothing overlaps, whatever the flow looks like."""

import random
from itertools import combinations

import pytest

from stepflow.drawing.graph import Graph, graph_of
from stepflow.drawing.layers import Bend, layered
from stepflow.drawing.layout import Layout, arranged
from stepflow.flow.model import Coalesce, Expression, Flow, If, InputRef, ObjectOf, Step, StepRef


def made_up_flow(steps: int, seed: int) -> Flow:
    chance = random.Random(seed)

    def source(before: int) -> Expression:
        kind = chance.random()
        if before == 0 or kind < 0.25:
            return InputRef(("text",))
        if kind < 0.8:
            return StepRef(f"step{chance.randrange(max(0, before - 5), before)}")
        if kind < 0.9:
            return If(source(before), source(before), source(before))
        return Coalesce((source(before), source(before)))

    made = tuple(
        Step(
            id=f"step{index}",
            component=f"/p{index % 3}/{'long' * chance.randrange(1, 5)}",
            input=ObjectOf(tuple((f"field{field}", source(index)) for field in range(chance.randrange(1, 4)))),
        )
        for index in range(steps)
    )
    return Flow(steps=made, output=source(steps))


def laid_out(flow: Flow) -> tuple[Graph, Layout]:
    graph = graph_of(flow)
    layers = layered(graph)
    sizes = {vertex: (3.0, 13.0) if isinstance(vertex, Bend) else (90.0, 40.0) for row in layers.rows for vertex in row}
    return graph, arranged(layers, sizes)


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("seed", range(4))
def test_no_node_lies_over_another_or_over_a_passing_line(steps: int, seed: int) -> None:
    _, layout = laid_out(made_up_flow(steps, seed))

    for one, other in combinations(layout.centres, 2):
        (x, y), (to_x, to_y) = layout.centres[one], layout.centres[other]
        apart_x = abs(x - to_x) - (layout.boxes[one][0] + layout.boxes[other][0]) / 2
        apart_y = abs(y - to_y) - (layout.boxes[one][1] + layout.boxes[other][1]) / 2
        assert apart_x >= 0 or apart_y >= 0, (one, other)


@pytest.mark.parametrize("seed", range(4))
def test_values_flow_downwards_from_the_input_to_the_output(seed: int) -> None:
    graph, layout = laid_out(made_up_flow(20, seed))

    for edge in graph.edges:
        assert layout.centres[edge.source][1] < layout.centres[edge.target][1]
    assert layout.centres["input"][1] == min(y for _, y in layout.centres.values())
    assert layout.centres["output"][1] == max(y for _, y in layout.centres.values())


def test_a_chain_stands_upright() -> None:
    chain = tuple(Step(id=f"s{i}", component="/x/y", input=StepRef(f"s{i - 1}") if i else InputRef()) for i in range(9))

    _, layout = laid_out(Flow(steps=chain, output=StepRef("s8")))

    assert len({round(x, 3) for x, _ in layout.centres.values()}) == 1
