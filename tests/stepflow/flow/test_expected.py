"""The `test` section of a flow."""

from typing import Any

import pytest

from stepflow.errors import FlowInvalidError
from stepflow.flow.model import Expected, ExpectedError, TestCase, TestSection
from stepflow.flow.read import flow_from_json


def section(value: Any) -> TestSection | None:
    return flow_from_json({"test": value}).test


def refused(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(FlowInvalidError) as caught:
        section(value)
    return [(problem.path, f"{problem.message}; {problem.remedy}") for problem in caught.value.problems]


def test_a_section_is_read() -> None:
    found = section(
        {
            "configFile": "c.yml",
            "cases": [
                {"name": "a", "input": None},
                {"name": "b", "description": "d", "input": 1, "output": {"outcome": "success", "result": None}},
                {
                    "name": "c",
                    "input": 1,
                    "output": {"outcome": "failed", "error": {"code": "TIMEOUT", "message": "", "data": 1}},
                },
            ],
        }
    )

    assert found == TestSection(
        config_file="c.yml",
        cases=(
            TestCase(name="a", input=None),
            TestCase(name="b", description="d", input=1, output=Expected()),
            TestCase(name="c", input=1, output=Expected(error=ExpectedError(code="TIMEOUT", message="", data=1))),
        ),
    )


def test_the_configuration_has_another_name() -> None:
    assert section({"stepflow_config": {"a": 1}}) == section({"config": {"a": 1}}) == TestSection(config={"a": 1})


def test_a_file_and_a_configuration_together_are_read() -> None:
    assert section({"config": {}, "configFile": "c.yml"}) == TestSection(config={}, config_file="c.yml")


@pytest.mark.parametrize("value", [None, {}])
def test_an_empty_section_is_told_from_none(value: Any) -> None:
    assert section(value) == (None if value is None else TestSection())


@pytest.mark.parametrize(
    ("value", "path", "text"),
    [
        ([], "$.test", "an object, not an array"),
        ({"config": "x"}, "$.test.config", "an object, not a string"),
        ({"config": {}, "stepflow_config": {}}, "$.test.stepflow_config", "both are there"),
        ({"cases": {}}, "$.test.cases", "an array, not an object"),
        ({"cases": [1]}, "$.test.cases[0]", "an object is wanted here, not a number"),
        ({"cases": [{"input": 1}]}, "$.test.cases[0]", "`name` is missing"),
        ({"cases": [{"name": "a"}]}, "$.test.cases[0]", "`input` is missing"),
    ],
)
def test_a_wrong_section_is_refused(value: Any, path: str, text: str) -> None:
    ((found_path, found),) = refused(value)

    assert found_path == path
    assert text in found


@pytest.mark.parametrize(
    ("output", "path", "text"),
    [
        ("x", "", "an object, not a string"),
        ({}, "", "`outcome` is missing"),
        ({"outcome": "skipped"}, ".outcome", "there is no outcome `skipped`; write success or failed"),
        ({"outcome": "success"}, "", "`result` is missing"),
        ({"outcome": "failed"}, "", "`error` is missing"),
        ({"outcome": "failed", "error": {"code": "TIMEOUT"}}, ".error", "`message` is missing"),
        ({"outcome": "failed", "error": {"code": 1, "message": ""}}, ".error.code", "a string, not a number"),
        (
            {"outcome": "failed", "error": {"code": "timeout", "message": ""}},
            ".error.code",
            "there is no error code `timeout`; did you mean TIMEOUT?",
        ),
    ],
)
def test_a_wrong_expectation_is_refused(output: Any, path: str, text: str) -> None:
    ((found_path, found),) = refused({"cases": [{"name": "a", "input": 1, "output": output}]})

    assert found_path == f"$.test.cases[0].output{path}"
    assert text in found
