"""Tables of the protocol, from the `.proto` files of `stepflow_grpc`. Their comments are the texts."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

PROTOS = Path(__file__).parent.parent / "stepflow_grpc" / "proto" / "stepflow"

_BLOCK = re.compile(r"(message|enum|service) (\w+) \{(\})?")
_FIELD = re.compile(r"\s+(?:(optional|repeated) )?([\w.]+(?:<[\w., ]+>)?) (\w+) = (\d+);(?:  // (.*))?")
_VALUE = re.compile(r"\s+(\w+) = (\d+);(?:  // (.*))?")
_METHOD = re.compile(r"  rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
_ONEOF = re.compile(r"  oneof (\w+) \{")
_COMMENT = re.compile(r"\s*// ?(.*)")


class Row(msgspec.Struct):
    """A field, a value or a method."""

    name: str
    shape: str
    number: str
    text: str


class Block(msgspec.Struct):
    kind: str
    name: str
    text: str
    rows: list[Row] = []


def blocks(source: str) -> list[Block]:
    """What a `.proto` file says, in its order."""
    found: list[Block] = []
    said: list[str] = []
    oneof = ""
    for line in source.splitlines():
        if comment := _COMMENT.fullmatch(line):
            said.append(comment[1])
            continue
        text, said = " ".join(said), []
        if block := _BLOCK.match(line):
            found.append(Block(block[1], block[2], text))
        elif group := _ONEOF.match(line):
            oneof = group[1]
        elif line == "  }":
            oneof = ""
        elif found and (row := _row(line, text, oneof)) is not None:
            found[-1].rows.append(row)
    return found


def _row(line: str, text: str, oneof: str) -> Row | None:
    if method := _METHOD.match(line):
        request, answer = (
            f"{'stream of ' if each[0] else ''}`{each[1]}`" for each in (method.group(2, 3), method.group(4, 5))
        )
        return Row(method[1], f"{request} → {answer}", "", text)
    if field := _FIELD.match(line):
        label = f"{field[1]} " if field[1] else ""
        kind = f"`{label}{field[2].removeprefix('google.protobuf.')}`"
        return Row(field[3], f"{kind}, one of `{oneof}`" if oneof else kind, field[4], field[5] or "")
    if value := _VALUE.match(line):
        return Row(value[1], "", value[2], value[3] or "")
    return None


def lines(name: str) -> Iterator[str]:
    """Markdown of a file, such as `v1/tasks`."""
    for block in blocks((PROTOS / f"{name}.proto").read_text()):
        yield from (f"**`{block.name}`**{': ' + _escaped(block.text) if block.text else ''}", "")
        yield from _table(block)
        yield ""


def _table(block: Block) -> Iterator[str]:
    if not block.rows:
        yield "No fields." if block.kind == "message" else ""
        return
    heads = {"service": ("Method", "Takes → gives", "Meaning"), "enum": ("Value", "#", "Meaning")}
    yield _line(heads.get(block.kind, ("Field", "#", "Type", "Meaning")))
    yield _line(["---"] * len(heads.get(block.kind, "four")))
    for row in block.rows:
        number = [row.number] if row.number else []
        shape = [row.shape] if row.shape else []
        yield _line([f"`{row.name}`", *number, *shape, _escaped(row.text)])


def _line(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
