"""The same shapes as pixels."""

import io

import pytest

from stepflow.drawing.graph import graph_of
from stepflow.drawing.png import draw_png
from stepflow.drawing.scene import fills
from stepflow.flow.model import Flow, InputRef, Step, StepRef

Image = pytest.importorskip("PIL.Image")

STEP = Step(id="quick", component="/py/score", input=InputRef(("text",)))


def test_a_picture_is_painted_in_the_colours_of_its_servers() -> None:
    flow = Flow(steps=(STEP,), output=StepRef("quick"))

    image = Image.open(io.BytesIO(draw_png(flow)))

    colours = {colour for _, colour in image.convert("RGB").getcolors(100_000)}
    assert fills(graph_of(flow))["step:0"] in {"#{:02x}{:02x}{:02x}".format(*colour) for colour in colours}
    assert image.width > 100


def test_a_huge_flow_gives_a_picture_of_bounded_size() -> None:
    chain = tuple(
        Step(id=f"s{i}", component="/x/y", input=StepRef(f"s{i - 1}") if i else InputRef()) for i in range(300)
    )

    image = Image.open(io.BytesIO(draw_png(Flow(steps=chain))))

    assert image.width * image.height <= 6_100_000
