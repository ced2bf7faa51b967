"""Actual outputs written into the test cases of a flow's text; every other character stays as it is."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from stepflow.errors import ProblemsError, StepflowError
from stepflow.flow.document import read_text
from stepflow.flow.model import Origin
from stepflow.records import Json
from stepflow.testing.yaml_block import yaml_block

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

    Edit: TypeAlias = tuple[int, int, str]

_ALIAS = re.compile(r"\s*:\s*\*[^\s,\[\]{}]+")


class RecordingError(StepflowError):
    """The outputs could not be written in this text without changing something else. The text is as it was."""


def recorded(origin: Origin, outputs: Mapping[int, Json]) -> str:
    """The text of a flow with these outputs, by the index of their test case.

    Raises:
        RecordingError: the text is laid out so that this would change something else.
    """
    from ruamel.yaml.error import YAMLError

    text = origin.text or ""
    try:
        cases = _cases(text)
        edits = [_edit(text, cases[index], output) for index, output in outputs.items()]
    except (YAMLError, IndexError):
        raise RecordingError(f"{origin.name}: the test cases could not be found in the text") from None
    after = text
    for start, end, new in sorted(edits, reverse=True):
        after = after[:start] + new.replace("\n", "\r\n" if "\r\n" in text else "\n") + after[end:]
    _check(origin, after, outputs)
    return after


def _cases(text: str) -> "list[MappingNode]":
    from ruamel.yaml import YAML

    root = YAML(typ="rt", pure=True).compose(text)
    test = _entry(root, "test")
    cases = _entry(test[1], "cases") if test is not None else None
    return list(cases[1].value) if cases is not None else []


def _entry(node: "Node", name: str) -> "tuple[Node, Node] | None":
    return next(((key, value) for key, value in node.value if key.value == name), None)


def _edit(text: str, case: "MappingNode", output: Json) -> "Edit":
    if case.flow_style:
        return _edit_in_braces(text, case, output)
    column = case.value[0][0].start_mark.column
    lines = ["output:", *("  " + line if line else "" for line in yaml_block(output).splitlines())]
    block = ("\n" + " " * column).join(lines).replace("\n" + " " * column + "\n", "\n\n")
    entry = _entry(case, "output")
    if entry is None:
        end = _end(text, *case.value[-1])
        return end, end, "\n" + " " * column + block
    return entry[0].start_mark.index, _end(text, *entry), block


def _edit_in_braces(text: str, case: "MappingNode", output: Json) -> "Edit":
    written = json.dumps(output, ensure_ascii=False)
    entry = _entry(case, "output")
    if entry is not None:
        return entry[1].start_mark.index, _end(text, *entry), written
    before = text[: case.end_mark.index - 1].rstrip()
    comma = "" if before.endswith((",", "{")) else ","
    return len(before), len(before), f'{comma} "output": {written}'


def _end(text: str, key: "Node", value: "Node") -> int:
    """Where a field's last token ends. The mark of a block stands behind the comments and blank lines after it."""
    from ruamel.yaml.nodes import CollectionNode

    start, stop = int(value.start_mark.index), int(value.end_mark.index)
    if start < key.end_mark.index:
        alias = _ALIAS.match(text, key.end_mark.index)
        return alias.end() if alias else int(key.end_mark.index)
    if isinstance(value, CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        return _end(text, *last) if isinstance(last, tuple) else _end(text, key, last)
    return start + len(text[start:stop].rstrip())


def _check(origin: Origin, after: str, outputs: Mapping[int, Json]) -> None:
    try:
        got = read_text(after, origin.name or "flow", origin.format).value
    except ProblemsError as error:
        raise RecordingError(f"{origin.name}: the outputs cannot be recorded in this layout: {error}") from None
    wanted = read_text(origin.text or "", origin.name or "flow", origin.format).value
    for index, output in outputs.items():
        wanted["test"]["cases"][index]["output"] = output  # type: ignore[index, call-overload]  # read as a flow before
    if msgspec.json.encode(wanted, order="sorted") != msgspec.json.encode(got, order="sorted"):
        raise RecordingError(
            f"{origin.name}: the outputs cannot be recorded without changing something else in the file"
        )
