"""The parts of a flow document, as frozen structs. `flow.read` makes them, `flow.identity` writes them."""

from typing import TypeAlias

import msgspec

from stepflow.errors import Problem
from stepflow.records import Json

Path: TypeAlias = tuple[str | int, ...]
"""Where to look inside a value: a string is a field of an object, a number an index of an array. Empty: the root."""


class Literal(msgspec.Struct, frozen=True):
    """A value that stands for itself."""

    value: Json
    quoted: bool = False  # written as {"$literal": …}


class StepRef(msgspec.Struct, frozen=True):
    step: str
    path: Path = ()


class InputRef(msgspec.Struct, frozen=True):
    path: Path = ()


class VariableRef(msgspec.Struct, frozen=True):
    path: Path  # the first part is the variable's name
    default: "Expression | None" = None


class If(msgspec.Struct, frozen=True):
    condition: "Expression"
    then: "Expression"
    otherwise: "Expression | None" = None


class Coalesce(msgspec.Struct, frozen=True):
    choices: tuple["Expression", ...]


class ArrayOf(msgspec.Struct, frozen=True):
    items: tuple["Expression", ...]


class ObjectOf(msgspec.Struct, frozen=True):
    fields: tuple[tuple[str, "Expression"], ...]


Expression: TypeAlias = Literal | StepRef | InputRef | VariableRef | If | Coalesce | ArrayOf | ObjectOf

Setting: TypeAlias = int | float | VariableRef
"""A number, or the variable that holds it: resolved and checked when a run is submitted."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before the retries of a step. Absent settings take the engine's."""

    type: str  # constant, exponential or fibonacci
    delay_ms: Setting | None = None  # constant
    min_delay_ms: Setting | None = None  # the others
    max_delay_ms: Setting | None = None
    factor: Setting | None = None  # exponential


class OnError(msgspec.Struct, frozen=True, kw_only=True):
    action: str = "fail"  # fail, useDefault or retry
    default: Json = None  # useDefault: a literal, never an expression
    has_default: bool = False  # whether defaultValue was written
    max_retries: Setting | None = None  # retry: absent means 3; useDefault: absent means 0
    backoff: Backoff | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    component: str
    input: Expression = Literal(None)
    on_error: OnError | None = None
    timeout: Setting | None = None  # seconds, of one attempt
    must_execute: bool | None = None  # None: not written, which is kept apart from false in the flow's id
    metadata: dict[str, Json] = {}


class Schemas(msgspec.Struct, frozen=True, kw_only=True):
    """JSON Schemas of the flow's faces. None: not declared."""

    defs: dict[str, Json] = {}
    input: Json = None
    output: Json = None
    variables: Json = None
    steps: dict[str, Json] = {}  # output schema by step id


class ExpectedError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    data: Json = None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome that a test case expects: a result, or an error."""

    result: Json = None
    error: ExpectedError | None = None


class TestCase(msgspec.Struct, frozen=True, kw_only=True):
    __test__ = False  # not a class for pytest to collect

    name: str
    input: Json
    description: str | None = None
    output: Expected | None = None


class TestSection(msgspec.Struct, frozen=True, kw_only=True):
    __test__ = False

    config_file: str | None = None
    config: Json = None
    cases: tuple[TestCase, ...] = ()


class Example(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    input: Json
    description: str | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a document came from, kept so that a problem found later can still be placed."""

    name: str | None = None  # of the file
    text: str | None = None  # None: the flow was given as a dict
    format: str = "yaml"  # or json


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A whole flow document."""

    name: str | None = None
    description: str | None = None
    version: str | None = None
    schemas: Schemas = Schemas()
    steps: tuple[Step, ...] = ()
    output: Expression = Literal(None)
    test: TestSection | None = None
    examples: tuple[Example, ...] | None = None  # an empty list is kept as written
    metadata: dict[str, Json] = {}
    origin: Origin = Origin()
    warnings: tuple[Problem, ...] = ()  # what was read but looks mistaken: unknown keys, misspellings
