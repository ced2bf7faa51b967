"""The SQL of the store by name. Each statement stands in a file of its own in `queries/`.

The files name the schema `stepflow`; a store in another schema gets that name in its place, once for each statement.
Statements say the schema themselves because a search path would be the session's, which a pooler may change.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

_SCHEMA = re.compile(r"\bstepflow\.(?=\w)")
_COMMENTS = re.compile(r"^\s*--.*\n", re.MULTILINE)


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


@cache
def statement(name: str, schema: str) -> bytes:
    """The text of `queries/NAME.sql`, as it is sent."""
    text = (files(__package__) / "queries" / f"{name}.sql").read_text(encoding="utf-8")
    lines = (line.strip() for line in _COMMENTS.sub("", text).splitlines())
    return in_schema(" ".join(lines).strip().removesuffix(";"), schema).encode()


@cache
def migrations() -> Sequence[tuple[str, str]]:
    """The name and the script of each migration, in their order."""
    found = (file for file in (files(__package__) / "migrations").iterdir() if file.name.endswith(".sql"))
    return sorted((file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in found)


def in_schema(sql: str, schema: str) -> str:
    return _SCHEMA.sub(lambda _: f"{quoted(schema)}.", sql)
