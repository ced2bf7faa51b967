"""Values given on the command line: as JSON or YAML text, in a file, or on stdin."""

import hashlib
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from stepflow.cli.options import at_most_one
from stepflow.errors import InputInvalidError, Problem
from stepflow.flow.document import MAX_BYTES, load_document, read_text
from stepflow.flow.identity import compact_json
from stepflow.flow.json_text import is_too_deep
from stepflow.flow.marked import MAX_DEPTH
from stepflow.flow.model import Flow
from stepflow.plan.variables import variables_from_environment
from stepflow.records import Json

_INLINE = re.compile(r'\s*(?:[{\["]|(?:true|false|null|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*\Z)')
STDIN = "-"
_DECODER = msgspec.json.Decoder()


def looks_like_json(text: str) -> bool:
    """Whether a text is meant as JSON rather than as a file's name."""
    return _INLINE.match(text) is not None


def text_value(text: str, option: str, format: str) -> Json:
    """Raises: InputInvalidError, whose problems name the option as they would name a file."""
    return read_text(text, option, format, error=InputInvalidError).value


def data_of(content: bytes) -> tuple[Json] | None:
    """The value of JSON that is data, boxed: unlike a document it may hold integers of any size.

    None: it has to be read again, to say what is wrong with it.
    """
    try:
        value: Json = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    is_flat = content.count(b"[") + content.count(b"{") < MAX_DEPTH
    return (value,) if is_flat or not is_too_deep(value) else None


def json_value(text: str, option: str) -> Json:
    """Raises: InputInvalidError, as `text_value` does."""
    found = data_of(text.encode(errors="surrogatepass"))
    return text_value(text, option, "json") if found is None else found[0]


def file_value(name: str) -> Json:
    path = Path(name)
    if path.suffix.lower() in (".json", ".jsonl") and path.is_file() and path.stat().st_size <= MAX_BYTES:
        with suppress(OSError):  # said below, with what to do
            found = data_of(path.read_bytes())
            if found is not None:
                return found[0]
    return load_document(name, error=InputInvalidError).value


def value_of(given: str, option: str) -> Json:
    """JSON text, `-` for stdin, else a file."""
    if given == STDIN:
        return stdin_value("json")
    if looks_like_json(given) and not os.path.isfile(given):  # Path's own raises for a long text
        return json_value(given, option)
    return file_value(given)


def stdin_value(format: str) -> Json:
    """The one value that stdin holds."""
    if sys.stdin.isatty():
        raise click.UsageError(
            "no input is given; write --input '{…}', --input FILE or --inputs FILE", click.get_current_context()
        )
    content = sys.stdin.buffer.read()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InputInvalidError([Problem(message=f"not UTF-8: {error.reason}", source="stdin")]) from None
    if format == "json" and not text.strip():
        remedy = "write --input '{…}', or --input null for no input"
        raise InputInvalidError([Problem(message="stdin is empty", source="stdin", remedy=remedy)])
    return json_value(text, "stdin") if format == "json" else text_value(text, "stdin", format)


def single_input(*, input: str | None, input_json: str | None, input_yaml: str | None, stdin_format: str) -> Json:
    if input_json is not None:
        return json_value(input_json, "--input-json")
    if input_yaml is not None:
        return text_value(input_yaml, "--input-yaml", "yaml")
    return stdin_value(stdin_format) if input in (None, STDIN) else value_of(str(input), "--input")


def is_of_stdin(input: str | None, input_json: str | None, input_yaml: str | None) -> bool:
    return input in (None, STDIN) and input_json is None and input_yaml is None


def digest_of(value: Json) -> str:
    """The same for one input however it was given; never that of a file of inputs."""
    return hashlib.sha256(b"one input: " + compact_json(value).encode()).hexdigest()


def given_variables(
    *, variables: str | None, variables_json: str | None, variables_yaml: str | None
) -> dict[str, Json]:
    """The variables that were given; empty when none were."""
    at_most_one(variables=variables, variables_json=variables_json, variables_yaml=variables_yaml)
    value = _given("variables", variables, variables_json, variables_yaml)
    if value is None:
        return {}
    if not isinstance(value, dict):
        remedy = 'write an object of names and values, such as {"limit": 3}'
        raise InputInvalidError([Problem(message="the variables are not an object", remedy=remedy)])
    return value


def environment_variables(flow: Flow, given: dict[str, Json]) -> dict[str, Json]:
    """The given variables, and those that the flow declares and the environment holds."""
    return variables_from_environment(flow, given, os.environ)


def given_overrides(*, overrides: str | None, overrides_json: str | None, overrides_yaml: str | None) -> Json:
    """The overrides that were given; None when none were."""
    at_most_one(overrides=overrides, overrides_json=overrides_json, overrides_yaml=overrides_yaml)
    return _given("overrides", overrides, overrides_json, overrides_yaml)


def _given(name: str, file: str | None, json: str | None, yaml: str | None) -> Json:
    if json is not None:
        return json_value(json, f"--{name}-json")
    if yaml is not None:
        return text_value(yaml, f"--{name}-yaml", "yaml")
    return None if file is None else value_of(file, f"--{name}")
