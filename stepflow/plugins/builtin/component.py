"""What a builtin component is: its schemas, its work, and how it reads its input."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import msgspec

from stepflow.errors import InvalidInputError
from stepflow.plugins.normal import normalise
from stepflow.protocols import Host
from stepflow.records import Json, Outcome, Task

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Perform: TypeAlias = Callable[[Task, Host], Awaitable[Outcome]]

T = TypeVar("T", bound=msgspec.Struct)


class Builtin(msgspec.Struct, frozen=True, kw_only=True):
    """A component that ships with the engine. Its work raises a ComponentError for what its caller should see."""

    name: str
    description: str
    input: type[msgspec.Struct] | None  # None: any value
    output_schema: dict[str, Json]
    perform: Perform

    def input_schema(self) -> dict[str, Json]:
        return {"$schema": DIALECT} if self.input is None else struct_schema(self.input)


def struct_schema(type: type[msgspec.Struct]) -> dict[str, Json]:
    """The JSON Schema of a struct, whole in itself: what it refers to stands in its own `$defs`."""
    schema = msgspec.json.schema(type)
    definitions = schema["$defs"]
    top = definitions.pop(type.__name__)
    top.pop("title")
    return {"$schema": DIALECT, **top, **({"$defs": definitions} if definitions else {})}


def read_input(type: type[T], value: Json, *, integers: tuple[str, ...] = ()) -> T:
    """The input as a struct; unknown keys are let pass.

    Args:
        integers: fields in which a whole double counts as the integer it is.

    Raises:
        InvalidInputError: it does not fit; the text names the path.
    """
    if isinstance(value, dict):
        value = value | {name: _whole(value[name]) for name in integers if name in value}
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        text = str(error)
        raise InvalidInputError(text if " - at `" in text else f"{text} - at `$`") from None


def read_json(content: bytes) -> Json:
    """The value of a JSON text, within what a component may answer.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return normalise(msgspec.json.decode(content))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except msgspec.DecodeError as error:  # not always a ValueError itself
        raise ValueError(str(error)) from None


def _whole(value: Json) -> Json:
    return int(value) if isinstance(value, float) and value.is_integer() else value
