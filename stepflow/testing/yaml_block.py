"""JSON values as YAML that people read: one field a line, and equal when read back under YAML 1.2."""

import json
import re

from stepflow.flow.yaml_text import scalar
from stepflow.records import Json

_PLAIN = re.compile(r"[A-Za-z_/$](?:[\w ./$@%+=()-]*[\w./$@%+=()-])?")


def yaml_block(value: Json) -> str:
    """The value in block style, ending with a line break."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Json) -> list[str]:
    match value:
        case dict() if value:
            return [line for key, item in value.items() for line in _field(key, item)]
        case list() if value:
            return [line for item in value for line in _indented("- ", _lines(item))]
        case str() if _reads_as_block(value):
            rest = value.removesuffix("\n")
            return ["|" if rest != value else "|-", *(f"  {line}" if line else "" for line in rest.split("\n"))]
        case str():
            return [_text(value)]
        case _:
            return [json.dumps(value)]


def _field(key: str, item: Json) -> list[str]:
    lines = _lines(item)
    if isinstance(item, dict | list) and item:
        return [f"{_text(key)}:", *_indented("  ", lines)]
    return [f"{_text(key)}: {lines[0]}", *lines[1:]]


def _indented(head: str, lines: list[str]) -> list[str]:
    return [head + lines[0], *(f"  {line}" if line else "" for line in lines[1:])]


def _reads_as_block(text: str) -> bool:
    lines = text.removesuffix("\n").split("\n")
    return len(lines) > 1 and all(map(str.isprintable, lines)) and lines[0][:1] not in ("", " ") and lines[-1] != ""


def _text(text: str) -> str:
    if text.isascii() and _PLAIN.fullmatch(text) and isinstance(scalar(text), str):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in quoted)


def _escaped(char: str) -> str:
    return f"\\U{ord(char):08x}" if ord(char) > 0xFFFF else f"\\u{ord(char):04x}"
