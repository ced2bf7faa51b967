from collections.abc import Mapping
from typing import Any

import pytest

from stepflow.engine import Engine
from stepflow.execution.options import SubmitOptions, check_inputs, check_options


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key": "nightly", "max_concurrency": 1, "deadline_s": 0.5, "validation": "off", "keep_results": False},
        {"key": None, "max_concurrency": None, "deadline_s": None, "validation": None},
    ],
)
def test_what_can_be_meant_is_taken(options: SubmitOptions) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_concurency": 3}, "no option 'max_concurency'; there are key, variables"),
        ({"key": 7}, "key is a text, not int"),
        ({"key": "\ud800"}, r"key holds a lone surrogate, which is not text: '\\ud800'"),
        ({"max_concurrency": 0}, "max_concurrency is a whole number from 1 on"),
        ({"max_concurrency": True}, "max_concurrency is a whole number from 1 on"),
        ({"deadline_s": 0}, "deadline_s is a number of seconds above 0"),
        ({"deadline_s": float("inf")}, "deadline_s is a number of seconds above 0, not inf"),
        ({"deadline_s": 10**400}, "deadline_s is a number of seconds above 0"),
        ({"deadline_s": float("nan")}, "deadline_s is a number of seconds above 0, not nan"),
        ({"deadline_s": "5"}, "deadline_s is a number of seconds above 0, not '5'"),
        ({"deadline_s": True}, "deadline_s is a number of seconds above 0, not True"),
        ({"validation": "lax"}, "validation is one of strict, warn, off, not 'lax'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(options: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        check_options(options)


@pytest.mark.parametrize("inputs", ["items.jsonl", b"bytes", {"n": 1}, 5, None])
def test_one_input_is_not_taken_for_many(inputs: Any) -> None:
    with pytest.raises(TypeError, match="inputs are a list or another iterable"):
        check_inputs(inputs)


@pytest.mark.parametrize("inputs", [[], (1, 2), range(3), iter([1]), {1, 2}, (number for number in range(2))])
def test_any_other_iterable_is_many_inputs(inputs: Any) -> None:
    check_inputs(inputs)


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{"key": "\ud800"}, {"deadline_s": 10**400}, {"retries": 2}])
async def test_a_refused_option_does_no_harm_to_the_engine(options: Mapping[str, Any]) -> None:
    async with Engine() as engine:
        with pytest.raises((TypeError, ValueError)):
            await engine.run({"steps": [], "output": 1}, None, **options)

        assert await engine.run({"steps": [], "output": 1}) == 1
        assert len(await engine.list_runs()) == 1
