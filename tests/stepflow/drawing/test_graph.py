"""Which values go where."""

from stepflow.drawing.graph import Edge, graph_of
from stepflow.flow.model import Coalesce, Flow, If, InputRef, Literal, ObjectOf, Step, StepRef, VariableRef


def test_an_edge_is_labelled_with_the_place_inside_its_consumer() -> None:
    step = Step(id="a", component="/x/y", input=ObjectOf((("b", ObjectOf((("c", InputRef(("q",))),))),)))

    graph = graph_of(Flow(steps=(step,), output=StepRef("a")))

    assert graph.edges == (Edge("input", "step:0", "b.c"), Edge("step:0", "output", ""))


def test_two_values_between_the_same_two_nodes_are_one_edge() -> None:
    step = Step(id="a", component="/x/y", input=ObjectOf((("b", InputRef(("q",))), ("c", InputRef()))))

    graph = graph_of(Flow(steps=(step,)))

    assert graph.edges == (Edge("input", "step:0", "b, c"),)


def test_a_condition_is_a_node_between_what_it_reads_and_who_uses_it() -> None:
    steps = (Step(id="a", component="/x/y"), Step(id="b", component="/x/y"))
    output = ObjectOf((("r", If(InputRef(("deep",)), StepRef("a"), Coalesce((StepRef("b"), Literal(0))))),))

    graph = graph_of(Flow(steps=steps, output=output))

    assert [node.kind for node in graph.nodes] == ["input", "step", "step", "coalesce", "if", "output"]
    assert set(graph.edges) == {
        Edge("input", "if:1", "cond"),
        Edge("step:0", "if:1", "then"),
        Edge("coalesce:2", "if:1", "else"),
        Edge("step:1", "coalesce:2", "0"),
        Edge("if:1", "output", "r"),
    }


def test_what_a_variable_falls_back_to_is_drawn() -> None:
    steps = (Step(id="a", component="/x/y"),)

    graph = graph_of(Flow(steps=steps, output=VariableRef(("v",), StepRef("a"))))

    assert graph.edges == (Edge("step:0", "output"),)


def test_a_reference_to_a_missing_step_gets_a_node() -> None:
    graph = graph_of(Flow(output=ObjectOf((("a", StepRef("nobody")), ("b", StepRef("nobody", ("x",)))))))

    assert [node.label for node in graph.nodes if node.kind == "missing"] == ["nobody"]


def test_a_component_below_no_other_path_belongs_to_the_root() -> None:
    paths = ("/ml/embed", "/count", "eval")

    graph = graph_of(Flow(steps=tuple(Step(id=path, component=path) for path in paths)))

    assert [node.server for node in graph.nodes if node.kind == "step"] == ["ml", "/", "builtin"]
