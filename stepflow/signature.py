"""What a component's function takes and gives: its parameters, and the JSON Schemas of its type hints."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from stepflow.flow.identity import recover_integers
from stepflow.records import Json

_CONTEXT = re.compile(r"\bContext\b")
_ANYTHING = (Any, object, inspect.Parameter.empty)


class SignatureError(ValueError):
    """A function that cannot be a component: what is wrong, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Parameters(msgspec.Struct, frozen=True):
    """Which parameter takes what. Path parameters go by their own names."""

    input: str
    context: str | None = None
    others: frozenset[str] | None = frozenset()  # what path parameters may be passed by name; None: any


def read_parameters(function: Callable[..., Any], path_names: Sequence[str], context: type) -> Parameters:
    """The parameters of a component's function: the input first, a context by its annotation, path parameters by name.

    Raises:
        SignatureError: the function cannot be called so.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SignatureError("it is a generator, and a component has one output", "return a list instead of yielding")
    parameters = list(_signature(function).parameters.values())
    takes_any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [parameter for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD]
    contexts = [parameter for parameter in named if _is_context(parameter.annotation, function, context)]
    if len(contexts) > 1:
        raise SignatureError("it has two parameters of type Context", "keep one of them")
    rest = [parameter for parameter in named if parameter not in contexts and parameter.name not in path_names]
    _check_input(rest)
    _check_names(path_names, named, takes_any_name)
    for parameter in rest[1:]:
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            raise SignatureError(
                f"nothing would be passed for its parameter {parameter.name!r}",
                "give it a default, or make it a field of the input",
            )
    by_name = [
        parameter.name
        for parameter in named
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter is not rest[0]
        and parameter not in contexts
    ]
    return Parameters(
        rest[0].name, contexts[0].name if contexts else None, None if takes_any_name else frozenset(by_name)
    )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise SignatureError(f"its signature cannot be read ({error})", "wrap it in a function of your own") from None


def _check_input(rest: Sequence[inspect.Parameter]) -> None:
    if not rest:
        raise SignatureError("it has no parameter for the input", "add one at the front, such as `input: dict`")
    if rest[0].kind not in (rest[0].POSITIONAL_ONLY, rest[0].POSITIONAL_OR_KEYWORD):
        raise SignatureError(
            f"its parameter {rest[0].name!r} cannot take the input", "put a plain parameter at the front"
        )


def _check_names(path_names: Sequence[str], named: Sequence[inspect.Parameter], takes_any_name: bool) -> None:
    by_name = {parameter.name for parameter in named if parameter.kind is not parameter.POSITIONAL_ONLY}
    for name in path_names:
        if name not in by_name and not takes_any_name:
            raise SignatureError(
                f"its path has a parameter {name!r}, and the function has none of this name",
                f"add `*, {name}: str` to its parameters",
            )


def _is_context(annotation: Any, function: Callable[..., Any], context: type) -> bool:
    if isinstance(annotation, str):
        if _CONTEXT.search(annotation) is None:
            return False
        resolved = _resolve(annotation, function)
        return isinstance(resolved, NameError) or _is_context(resolved, function, context)
    if isinstance(annotation, type):
        return issubclass(annotation, context)
    return any(_is_context(part, function, context) for part in get_args(annotation))


def _resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    """The type that an annotation names, or the NameError of one that names nothing here."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        hints = get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), globalns=names, include_extras=True)
    except NameError as error:
        return error
    except (TypeError, SyntaxError, AttributeError):
        return Any
    return hints["it"]


class Hints(msgspec.Struct, frozen=True):
    """The types of the input and of the output; `Any` where nothing is declared."""

    input: Any
    output: Any


def read_hints(function: Callable[..., Any], input: str, *, lists: bool = False) -> Hints:
    """The type hints of a component's function. With `lists` it takes and gives lists, and the hints are of an element.

    Raises:
        SignatureError: the hint of the input names nothing here, or nothing that JSON could become.
    """
    annotations = inspect.signature(function)
    given = _resolve(annotations.parameters[input].annotation, function)
    if isinstance(given, NameError):
        raise SignatureError(
            f"the type hint of its parameter {input!r} cannot be resolved ({given})",
            "import the type at the top of the module, outside `if TYPE_CHECKING`",
        )
    answer = _resolve(annotations.return_annotation, function)
    hints = Hints(_known(given), Any if isinstance(answer, NameError) else _known(answer))
    if lists:
        hints = Hints(_element(hints.input, input), _without_exceptions(_element(hints.output, None)))
    _check_convertible(hints.input, input)
    return hints


def _known(hint: Any) -> Any:
    return Any if hint in _ANYTHING else hint


def _element(hint: Any, parameter: str | None) -> Any:
    if hint is Any or hint is list:
        return Any
    if get_origin(hint) is not None and get_args(hint) and not isinstance(hint, UnionType):
        return _known(get_args(hint)[0])
    if parameter is None:
        return Any
    raise SignatureError(
        f"it is called with a list, and its parameter {parameter!r} is not one", "annotate it as list[…]"
    )


def _without_exceptions(hint: Any) -> Any:
    """Elements of a batch's answer may be exceptions; these are no outputs."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    kept = [part for part in get_args(hint) if not (isinstance(part, type) and issubclass(part, BaseException))]
    return Union[tuple(kept)] if kept else Any  # noqa: UP007


def _check_convertible(hint: Any, parameter: str) -> None:
    try:
        converter(hint)
    except (TypeError, NameError) as error:
        raise SignatureError(
            f"JSON cannot become the type of its parameter {parameter!r} ({_first_line(error)})",
            "use a Struct, a dataclass, a TypedDict or a pydantic model, or Any for the JSON as it is",
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def converter(hint: Any) -> Callable[[bytes], Any] | None:
    """From JSON text to a value of this type; None where the JSON itself will do.

    It raises ValueError or msgspec.ValidationError.

    Raises:
        TypeError: JSON has nothing that could become this type.
    """
    if hint is Any:
        return None
    if _is_pydantic(hint):
        convert: Callable[[bytes], Any] = _type_adapter(hint).validate_json
        return convert
    if isinstance(hint, type) and not _is_readable(hint):
        raise TypeError(f"type {hint} is not supported")
    return _reading(hint)


def _reading(hint: Any) -> Callable[[bytes], Any]:
    """A decoder that takes a whole double, such as 1.0, for an integer where only that fits."""
    decode = msgspec.json.Decoder(hint).decode

    def read(text: bytes) -> Any:
        try:
            return decode(text)
        except msgspec.ValidationError:
            whole = msgspec.json.encode(recover_integers(msgspec.json.decode(text)))
            if whole == text:
                raise
            try:
                return decode(whole)
            except msgspec.ValidationError:
                pass
            raise

    return read


def _is_readable(hint: type) -> bool:
    try:
        msgspec.json.schema(hint)
    except (TypeError, NameError):
        return hint is NoneType
    return True


def json_schema(hint: Any, *, output: bool = False) -> Json:
    """The JSON Schema of a type; None where it says nothing: Any, a plain dict, or what has no schema."""
    if hint is Any or hint is dict or (get_origin(hint) is dict and get_args(hint)[1] in _ANYTHING):
        return None
    if _is_pydantic(hint):
        schema: Json = _type_adapter(hint).json_schema(mode="serialization" if output else "validation")
        return schema
    try:
        return _inlined(msgspec.json.schema(hint))
    except (TypeError, NameError):
        return None


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema without the detour of a `$ref` at its top."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    reference = schema.get("$ref", "")
    name = reference.removeprefix("#/$defs/")
    if name not in definitions or f'"{reference}"'.encode() in msgspec.json.encode(definitions):
        return schema
    others = {key: value for key, value in definitions.items() if key != name}
    return {**definitions[name], **({"$defs": others} if others else {})}


def _is_pydantic(hint: Any) -> bool:
    """Whether a type has a pydantic model in it, told without importing pydantic."""
    if "pydantic" not in sys.modules:
        return False
    if isinstance(hint, type) and hasattr(hint, "__pydantic_validator__"):
        return True
    return any(_is_pydantic(part) for part in get_args(hint))


def _type_adapter(hint: Any) -> Any:
    return sys.modules["pydantic"].TypeAdapter(hint)
