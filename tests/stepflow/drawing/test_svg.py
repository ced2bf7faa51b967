"""The picture is sound XML and says what the flow says."""

from xml.etree import ElementTree

from stepflow.drawing.svg import draw_svg
from stepflow.flow.model import Flow, If, InputRef, Step, StepRef

FLOW = Flow(
    name="triage",
    steps=(
        Step(id="quick", component="/py/score", input=InputRef(("text",))),
        Step(id="slow", component="/ml/analyse", input=StepRef("quick")),
    ),
    output=If(InputRef(("deep",)), StepRef("slow"), StepRef("quick")),
)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_step_component_and_condition_is_named() -> None:
    shown = texts(draw_svg(FLOW))

    assert {"quick", "/py/score", "slow", "/ml/analyse", "if", "then", "else", "cond", "input", "output"} <= {*shown}
    assert shown[-2:] == ["py", "ml"]


def test_without_servers_only_the_steps_are_named() -> None:
    shown = texts(draw_svg(FLOW, servers=False))

    assert "/py/score" not in shown
    assert "py" not in shown


def test_without_details_nothing_shows_up_under_the_pointer() -> None:
    assert "component /py/score" in draw_svg(FLOW)
    assert "component /py/score" not in draw_svg(FLOW, details=False)


def test_a_note_stands_in_the_box_of_its_step() -> None:
    assert "12 · p50 3 ms" in texts(draw_svg(FLOW, notes={"slow": "12 · p50 3 ms"}))


def test_paints_colour_steps_in_the_stead_of_their_servers() -> None:
    svg = draw_svg(FLOW, paints={"slow": ("#fee2e2", "#dc2626")})

    assert svg.count('fill="#fee2e2" stroke="#dc2626"') == 1
    assert texts(svg)[-2:] == ["if", "output"]


def test_any_text_gives_sound_xml() -> None:
    odd = Flow(name='<&"\x00\ud800>', steps=(Step(id="</text>\n\x07", component="/a&b/<c>"),), output=StepRef("'\""))

    assert "</text>□□" in texts(draw_svg(odd)) or "</text>\n□" in texts(draw_svg(odd))


def test_an_empty_flow_is_an_input_and_an_output() -> None:
    assert texts(draw_svg(Flow())) == ["input", "output"]


def test_references_in_a_ring_can_be_drawn() -> None:
    ring = (
        Step(id="a", component="/x/y", input=StepRef("b")),
        Step(id="b", component="/x/y", input=StepRef("a")),
        Step(id="c", component="/x/y", input=StepRef("c")),
    )

    assert texts(draw_svg(Flow(steps=ring)))[:3] == ["input", "a", "/x/y"]


def test_a_server_has_the_same_colour_in_another_flow() -> None:
    alone = Flow(steps=(Step(id="slow", component="/ml/analyse"), Step(id="quick", component="/py/score")))

    for server in ("/ml/analyse", "/py/score"):
        assert box_before(draw_svg(FLOW), server) == box_before(draw_svg(alone), server)


def box_before(svg: str, text: str) -> str:
    boxes = svg[: svg.index(f">{text}<")].split("<rect ")
    return boxes[-1].split('fill="')[1].split('"')[0]
