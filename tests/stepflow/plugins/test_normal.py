import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.plugins.normal import MAX_DEPTH, NotJsonError, normalise


class Point(msgspec.Struct):
    x: float
    label: Any = None


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


class Row(TypedDict):
    id: int


class Model(pydantic.BaseModel):
    score: float
    at: datetime.date = datetime.date(2026, 11, 22)


class Color(enum.Enum):
    RED = "red"


class Text(str):
    pass


class Number(float):
    pass


class Odd:
    pass


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_plain_json_stays_as_it_is(value):
    assert normalise(value) == value
    assert repr(normalise(value)) == repr(value)


def test_the_answer_shares_nothing_with_what_was_given():
    value = {"a": [{"b": 1}]}

    plain = normalise(value)
    value["a"][0]["b"] = 2

    assert plain == {"a": [{"b": 1}]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1.5, label="a"), {"x": 1.5, "label": "a"}),
        (Pair(1, (2, 3)), {"left": 1, "right": [2, 3]}),
        (Row(id=1), {"id": 1}),
        (Model(score=0.5), {"score": 0.5, "at": "2026-11-22"}),
        ([Model(score=0.5)], [{"score": 0.5, "at": "2026-11-22"}]),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (Color.RED, "red"),
        ((1, (2,)), [1, [2]]),
        ({1}, [1]),
        (Text("a"), "a"),
        (Number(0.5), 0.5),
        ({"a": None, "b": (None,)}, {"a": None, "b": [None]}),
        ({1: "a", 2: "b"}, {"1": "a", "2": "b"}),
        (2**70, 2**70),
        ({"big": 2**70, "none": None}, {"big": 2**70, "none": None}),
    ],
)
def test_values_of_other_types_become_json(value, plain):
    assert normalise(value) == plain


NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NAN, "$: NaN is not JSON"),
        (INF, "$: Infinity is not JSON"),
        (-INF, "$: -Infinity is not JSON"),
        ({"scores": [1, 2, None, NAN]}, "$.scores[3]: NaN is not JSON"),
        (Point(NAN), "$.x: NaN is not JSON"),
        (Pair(1, Point(0.5, label=[INF])), "$.right.label[0]: Infinity is not JSON"),
        (Model(score=NAN), "$.score: NaN is not JSON"),
        ((1, (NAN,)), "$[1][0]: NaN is not JSON"),
        (Number("nan"), "$: NaN is not JSON"),
        (["fine", "\ud800"], "$[1]: it holds a lone surrogate, which is not text"),
        ({"a": {"\ud800": 1}}, "$.a: it holds a lone surrogate, which is not text"),
        ({"a": {(1, 2): 3}}, "$.a: its keys are of type tuple, and a JSON object has text for keys"),
        ({None: 3}, "$: its keys are of type NoneType, and a JSON object has text for keys"),
    ],
)
def test_what_json_does_not_have_is_refused_by_its_path(value, text):
    with pytest.raises(NotJsonError) as refused:
        normalise(value)

    assert str(refused.value) == text


@pytest.mark.parametrize("value", [b"abc", {"a": [b"abc"]}, Point(1, label=bytearray(b"x")), [memoryview(b"x")]])
def test_bytes_are_refused_with_a_remedy(value):
    with pytest.raises(NotJsonError, match=r"ctx\.put_blob"):
        normalise(value)


def test_an_unknown_object_is_named_with_its_path():
    with pytest.raises(NotJsonError, match=r"^\$\.a\[1\]\.right: an object of type .*Odd is not JSON$"):
        normalise({"a": [1, Pair(1, Odd())]})


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_a_value_may_be_nested_so_deep_and_no_deeper():
    assert normalise(nested(MAX_DEPTH)) == nested(MAX_DEPTH)

    for value in (
        nested(MAX_DEPTH + 1),
        nested(100_000),
        [nested(MAX_DEPTH)],
        {"text": "[[{", "deep": nested(MAX_DEPTH)},
    ):
        with pytest.raises(NotJsonError, match="nested deeper than 200"):
            normalise(value)


def test_brackets_in_text_are_no_nesting():
    value = {"text": "[" * 1_000, "rows": [{"a": [1, "]}"]}] * 300}

    assert normalise(value) == value


def test_a_value_that_contains_itself_is_refused():
    value: list[Any] = []
    value.append({"again": value})

    with pytest.raises(NotJsonError, match="contains itself"):
        normalise(value)


def test_an_integer_too_long_to_be_written_is_refused():
    assert normalise(10**4_000) == 10**4_000

    for value, path in ((10**5_000, r"\$"), ({"a": [-(10**5_000)]}, r"\$\.a\[0\]")):
        with pytest.raises(NotJsonError, match=f"^{path}: an integer of so many digits cannot be written"):
            normalise(value)
