import pytest

from stepflow.errors import ConfigError
from stepflow.plugins.mock import MockPlugin
from stepflow.records import ComponentInfo, ErrorCode, Failed, Succeeded

pytestmark = pytest.mark.anyio

TABLE = {
    "/ml/embed": {
        "input_schema": {"type": "object"},
        "output_schema": {"type": "array"},
        "behaviors": {
            '{"text": "a", "n": 1}': {"outcome": "success", "result": [0.5]},
            "plain": {"outcome": "success", "result": None},
            "[1]": {"outcome": "failed", "error": {"code": "INVALID_INPUT", "message": "no", "data": {"x": 1}}},
            7: {"error": "the line is dead"},
            None: {"outcome": "success"},
            ("a", 2): {"outcome": "success", "result": "sequence"},
        },
    },
    "/empty": {},
}


@pytest.mark.parametrize(
    ("input", "outcome"),
    [
        ({"n": 1, "text": "a"}, Succeeded([0.5])),
        ({"n": 1.0, "text": "a"}, Succeeded([0.5])),
        ("plain", Succeeded(None)),
        ([1], Failed(ErrorCode.INVALID_INPUT, "no", {"x": 1})),
        ("[1]", Failed(ErrorCode.INVALID_INPUT, "no", {"x": 1})),
        (7, Failed(ErrorCode.UNREACHABLE, "the line is dead")),
        (None, Succeeded(None)),
        (["a", 2], Succeeded("sequence")),
    ],
)
async def test_the_table_answers_by_the_value_of_the_input(slots, task, input, outcome):
    assert await MockPlugin(TABLE).perform(task("/ml/embed", input), slots) == outcome


@pytest.mark.parametrize("path", ["/ml/embed", "/empty"])
async def test_any_other_input_is_unreachable(slots, task, path):
    outcome = await MockPlugin(TABLE).perform(task(path, {"other": True}), slots)

    assert outcome.code is ErrorCode.UNREACHABLE
    assert not outcome.may_retry
    assert '{"other":true}' in outcome.message


async def test_an_unknown_component_names_what_there_is(slots, task):
    outcome = await MockPlugin(TABLE).perform(task("/ml/none"), slots)

    assert outcome.code is ErrorCode.COMPONENT_NOT_FOUND
    assert "/ml/embed, /empty" in outcome.message


async def test_components_are_listed_with_their_schemas():
    assert MockPlugin(TABLE).components({}) == (
        ComponentInfo(
            id="/ml/embed", path="/ml/embed", input_schema={"type": "object"}, output_schema={"type": "array"}
        ),
        ComponentInfo(id="/empty", path="/empty"),
    )


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        {},
        {"outcome": "maybe"},
        {"outcome": "failed"},
        {"outcome": "failed", "error": {"code": "X", "message": ""}},
    ],
)
async def test_a_result_that_is_none_is_refused_at_its_place(result):
    with pytest.raises(ConfigError, match="/a"):
        MockPlugin({"/a": {"behaviors": {"x": result}}})
