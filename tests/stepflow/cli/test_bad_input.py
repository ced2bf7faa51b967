"""Whatever is given: an exit code and a line that says what is wrong, never a traceback."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet='{}[]":,- \n$abc01.', max_size=60),
    st.sampled_from(
        ["steps: [{id: a, component: /x, input: {$step: a}}]", "{$input: '$['}", "a: &a [*a]", "!!python/x"]
    ),
)


def sound(outcome) -> bool:
    return outcome.code in (0, 1, 2, 3) and "error: unexpected" not in outcome.err and "Traceback" not in outcome.err


@QUICK
@given(text=TEXTS)
@example(text="- " * 5000)
@example(text="[" * 100_000)
@example(text="a: " + "9" * 5000)
def test_any_text_is_validated_as_a_flow(cli, project: Path, text: str) -> None:
    (project / "any.yaml").write_bytes(text.encode(errors="surrogatepass"))

    assert sound(cli("validate", "any.yaml"))


@QUICK
@given(content=st.binary(max_size=80))
def test_any_bytes_are_run_as_a_flow(cli, project: Path, content: bytes) -> None:
    (project / "any.yaml").write_bytes(content)

    assert sound(cli("run", "any.yaml", "--input", "null"))


@QUICK
@given(content=st.binary(max_size=80))
def test_any_bytes_are_taken_as_a_configuration(cli, project: Path, content: bytes) -> None:
    (project / "any.yml").write_bytes(content)

    assert sound(cli("list-components", "--config", "any.yml"))


@QUICK
@given(content=st.one_of(st.binary(max_size=80), TEXTS.map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_bytes_are_run_as_inputs(cli, project: Path, content: bytes) -> None:
    (project / "any.jsonl").write_bytes(content)

    assert sound(cli("run", "flow.yaml", "--app", "components:app", "--inputs", "any.jsonl"))


@QUICK
@given(text=TEXTS.filter(lambda text: "\0" not in text))
def test_any_text_is_taken_as_an_input_a_variable_or_an_override(cli, project: Path, text: str) -> None:
    for option in ("--input", "--input-json", "--input-yaml"):
        assert sound(cli("run", "flow.yaml", "--app", "components:app", f"{option}={text}"))
    for option in ("--variables", "--variables-yaml", "--overrides", "--overrides-yaml"):
        assert sound(cli("run", "flow.yaml", "--app", "components:app", "--input={}", f"{option}={text}"))


@pytest.mark.parametrize(
    "path", ["", ".", "..", "/", "/dev/null", "a\nb.yaml", "x" * 300 + ".yaml", "~", "\udcff.yaml"]
)
def test_any_path_is_an_error_of_one_kind(cli, project: Path, path: str) -> None:
    for arguments in (["validate", path], ["run", path, "--input", "1"], ["visualize", path, "-o", "-"]):
        outcome = cli(*arguments)

        assert sound(outcome)
        assert outcome.code == 1
