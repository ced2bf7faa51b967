"""The SQL of the store by name. Each statement stands in a file of its own in `sql/`."""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> str:
    """The text of `sql/NAME.sql`, as it is prepared; connections keep what they prepared by this text."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text(encoding="utf-8").strip().removesuffix(";")
