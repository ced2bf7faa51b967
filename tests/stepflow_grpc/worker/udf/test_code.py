"""From a text to a function."""

import asyncio
from itertools import count
from typing import Any

import pytest

from stepflow_grpc.worker.udf.code import CodeError, Record, arguments, compiled

_numbers = count(1)
BODY = """
total = 0
for each in input["items"]:
    if each < 0:
        return "negative"
    total += each
return total
"""
HELPERS = """
import textwrap
from math import sqrt

LIMIT = 4

def _shortened(text):
    return textwrap.shorten(text, LIMIT + 1)

def run(input):
    return [_shortened(input["text"]), sqrt(LIMIT)]
"""
CHOSEN = """
try:
    import no_such_module
except ImportError:
    def run(input):
        return "without"
else:
    def run(input):
        return "with"
"""


def call(code: str, input: Any, context: Any = None) -> Any:
    function = compiled(code, f"udf_test_{next(_numbers)}")
    return function(*arguments(function, input, context))


@pytest.mark.parametrize(
    ("code", "input", "output"),
    [
        ("def f(input):\n    return input['a'] + 1", {"a": 1}, 2),
        ("f = lambda input: input['a']", {"a": 1}, 1),
        ("lambda x: x['a'] * 2", {"a": 2}, 4),
        ("len", {"a": 1, "b": 2}, 2),
        ("input['a'] + 1", {"a": 1}, 2),
        ("input", {"a": 1}, {"a": 1}),
        ("math.floor(input.a)", {"a": 1.5}, 1),
        ("json.dumps(input)", {"a": 1}, '{"a": 1}'),
        ("return input['a']", {"a": 1}, 1),
        ("if input['a']:\n    return 'yes'\nreturn 'no'", {"a": 0}, "no"),
        ("x = re.sub('a', 'b', input.text)\nreturn x", {"text": "aa"}, "bb"),
        (BODY, {"items": [1, 2]}, 3),
        (BODY, {"items": [1, -2]}, "negative"),
        (HELPERS, {"text": "a b c"}, ["a b c", 2.0]),
        (CHOSEN, {}, "without"),
        ("def f():\n    return 1", {}, 1),
        ("def f(input, *more, flag=True):\n    return [more, flag]", {}, [(), True]),
    ],
)
def test_a_text_is_a_function_an_expression_or_a_body(code: str, input: Any, output: Any) -> None:
    assert call(code, input) == output


def test_fields_of_objects_are_attributes_unless_the_function_wants_something_else() -> None:
    nested = {"a": {"b": [{"c": 1}]}}

    assert call("def f(input):\n    return input.a.b[0].c", nested) == 1
    assert call("def f(input: dict):\n    return type(input).__name__", nested) == "Record"
    assert call("def f(input: 'Other'):\n    return type(input).__name__", nested) == "dict"


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="the input has no field 'b'"):
        _ = Record(a=1).b


def test_a_second_argument_is_the_context() -> None:
    assert call("def f(input, context):\n    return context", {}, "the context") == "the context"
    assert call("return context", {}, "the context") == "the context"


def test_an_async_function_gives_what_can_be_awaited() -> None:
    async def awaited() -> Any:
        return await call("async def f(input):\n    return input['a']", {"a": 1})

    assert asyncio.run(awaited()) == 1


def test_functions_that_could_both_be_meant_are_named() -> None:
    with pytest.raises(CodeError, match=r"several public functions \(one, two\): begin the names of helpers with an"):
        compiled("def one(input): ...\ndef two(input): ...\ndef _three(): ...", "udf_two")


def test_a_text_that_is_no_python_is_refused_with_its_line() -> None:
    with pytest.raises(CodeError, match="^line 2: "):
        compiled("x = 1\ny = (", "udf_broken")


def test_a_text_that_gives_nothing_is_refused() -> None:
    with pytest.raises(CodeError, match="defines no public function, is no expression, and returns nothing"):
        compiled("x = 1\ndef _f(input): return 1", "udf_nothing")


def test_classes_of_a_text_are_whole() -> None:
    code = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Point:
    x: int

def run(input):
    return Point(input["x"]).x
"""

    assert call(code, {"x": 3}) == 3
