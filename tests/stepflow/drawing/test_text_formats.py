"""DOT and Mermaid."""

from stepflow.drawing.dot import dot_text
from stepflow.drawing.mermaid import mermaid_text
from stepflow.flow.model import Flow, If, InputRef, Step, StepRef

FLOW = Flow(
    steps=(Step(id='say "hi"', component="/py/score", input=InputRef(("text",))),),
    output=If(InputRef(("deep",)), StepRef('say "hi"')),
)


def test_dot_has_a_node_a_step_and_a_labelled_edge_a_value() -> None:
    text = dot_text(FLOW)

    assert text.startswith("digraph workflow {\n")
    assert r'label="say \"hi\"\n/py/score\npy", shape=box' in text
    assert '"step:0" -> "if:1" [label="then"]' in text


def test_dot_without_servers_and_details_names_only_the_steps() -> None:
    text = dot_text(FLOW, servers=False, details=False)

    assert "/py/score" not in text
    assert "tooltip" not in text


def test_mermaid_quotes_what_it_would_read_as_its_own() -> None:
    text = mermaid_text(FLOW)

    assert text.startswith("flowchart TD\n")
    assert 'n1["say #34;hi#34;<br/>/py/score"]' in text
    assert 'n1 -->|"then"| n2' in text
