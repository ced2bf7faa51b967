import dataclasses
import inspect
from typing import Annotated, Any, TypedDict

import msgspec
import pydantic
import pytest

import stepflow
from stepflow.components import Batch, Components, Context
from stepflow.errors import ConfigError


class Document(msgspec.Struct):
    text: str


@dataclasses.dataclass
class Pair:
    left: int
    right: int = 0


class Row(TypedDict):
    id: int


class Model(pydantic.BaseModel):
    score: float


class Tree(msgspec.Struct):
    children: list["Tree"] = []


def double(input: int) -> int:
    return input * 2


def refusal(register, *args, **options) -> str:
    with pytest.raises(ConfigError) as refused:
        register(*args, **options)
    return str(refused.value)


def test_the_decorator_returns_the_function_unchanged():
    app = Components()

    assert app.component("/a")(double) is double
    assert app.component(double) is double
    assert [info.path for info in app.infos()] == ["/a", "/double"]


def test_an_id_is_the_path_unless_given():
    app = Components()
    app.component("/math/double")(double)
    app.component("/b", id="second")(double)

    assert [info.id for info in app.infos()] == ["math/double", "second"]
    assert app.get("second").function is double
    assert app.get("b") is None


def test_the_description_is_the_docstring_unless_given():
    app = Components()

    @app.component
    async def read(input):
        """Reads a file.

        As text.
        """

    app.component("/told", description="Told.")(read)
    app.component("/silent")(double)

    assert [info.description for info in app.infos()] == ["Reads a file.\n\nAs text.", "Told.", None]


def test_the_list_is_the_same_object_while_nothing_is_registered():
    app = Components()
    app.component("/a")(double)
    before = app.infos()

    assert app.infos() is before

    app.component("/b")(double)

    assert app.infos() is not before


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (
            Document,
            {"title": "Document", "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        ),
        (int, {"type": "integer"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict, None),
        (dict[str, Any], None),
        (Any, None),
        (object, None),
        (inspect.Parameter.empty, None),
        (stepflow.Json, None),
    ],
)
def test_the_schema_comes_from_the_type_hint(hint, schema):
    app = Components()

    def call(input):
        return input

    if hint is not inspect.Parameter.empty:
        call.__annotations__ = {"input": hint, "return": hint}
    app.component("/call")(call)

    assert app.infos()[0].input_schema == schema
    assert app.infos()[0].output_schema == schema


@pytest.mark.parametrize(("hint", "field"), [(Pair, "left"), (Row, "id"), (Model, "score"), (list[Model], "score")])
def test_dataclasses_typed_dicts_and_models_have_schemas(hint, field):
    app = Components()

    def call(input):
        return input

    call.__annotations__ = {"input": hint, "return": hint}
    app.component("/call")(call)

    assert f'"{field}"' in msgspec.json.encode(app.infos()[0].input_schema).decode()


def test_a_recursive_type_keeps_its_definitions():
    app = Components()

    @app.component
    def grow(input: Tree) -> Tree:
        return input

    schema = app.infos()[0].input_schema

    assert schema["$ref"] == "#/$defs/Tree"
    assert "Tree" in schema["$defs"]


def test_a_batch_is_described_by_one_of_its_elements():
    app = Components()

    @app.component("/embed", batch=Batch(size=8))
    def embed(inputs: list[Document], ctx: stepflow.Context) -> list[float | Exception]:
        return []

    info = app.infos()[0]

    assert info.input_schema["properties"] == {"text": {"type": "string"}}
    assert info.output_schema == {"type": "number"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("ml/embed", "does not begin with a slash"),
        ("", "does not begin with a slash"),
        ("/", "cannot be a part"),
        ("/a//b", "cannot be a part"),
        ("/a/", "cannot be a part"),
        ("/a b", "cannot be a part"),
        ("/{x", "cannot be a part"),
        ("/pre{x}", "cannot be a part"),
        ("/{*rest}/more", "is not the last part"),
        ("/{x}/{x}", "occurs twice"),
        ("/{not-a-name}", "cannot be the name of a parameter"),
    ],
)
def test_a_bad_path_is_refused_at_the_functions_place(path, reason):
    def call(input, *, x=None, rest=None):
        return input

    text = refusal(Components().component(path), call)

    assert reason in text
    assert f"{__file__}:{call.__code__.co_firstlineno}: " in text


def test_a_path_that_is_taken_names_who_has_it():
    app = Components()
    app.component("/one/{x}")(lambda input, x: x)

    def other(input, *, name):
        return name

    text = refusal(app.component("/one/{name}"), other)

    assert "is taken by <lambda>" in text
    assert __file__ in text
    assert "choose another" in text


def test_an_id_that_is_taken_is_refused():
    app = Components()
    app.component("/a", id="same")(double)

    assert "the id 'same' is taken by /a" in refusal(app.component("/b", id="same"), double)


def nothing():
    return 1


def only_context(ctx: Context):
    return 1


def only_keywords(*, input):
    return 1


def more(input, other):
    return 1


def twice(input, a: Context, b: Context):
    return 1


def yields(input):
    yield 1


def no_parameter_for_the_path(input):
    return 1


@pytest.mark.parametrize(
    ("function", "path", "reason"),
    [
        (nothing, "/x", "no parameter for the input"),
        (only_context, "/x", "no parameter for the input"),
        (only_keywords, "/x", "cannot take the input"),
        (more, "/x", "nothing would be passed for its parameter 'other'"),
        (twice, "/x", "two parameters of type Context"),
        (yields, "/x", "generator"),
        (no_parameter_for_the_path, "/x/{name}", "its path has a parameter 'name'"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(function, path, reason):
    text = refusal(Components().component(path), function)

    assert reason in text
    assert "; " in text  # the remedy
    assert f"{__file__}:{function.__code__.co_firstlineno}" in text


def test_a_type_that_json_cannot_become_is_refused_when_the_list_is_needed():
    class Odd:
        pass

    app = Components()

    def call(input: Odd):
        return 1

    app.component("/call")(call)
    text = refusal(app.infos)

    assert "JSON cannot become the type of its parameter 'input'" in text
    assert "or Any for the JSON as it is" in text


def test_a_hint_that_names_nothing_is_refused_when_the_list_is_needed():
    app = Components()

    def call(input: "Nowhere"):  # noqa: F821
        return 1

    app.component("/call")(call)

    assert "name 'Nowhere' is not defined" in refusal(app.infos)


def test_an_output_hint_that_names_nothing_gives_no_schema():
    app = Components()

    @app.component
    def call(input: int) -> "Nowhere":  # noqa: F821
        return 1

    assert app.infos()[0].output_schema is None


@pytest.mark.parametrize(
    "hint", [Context, "Context", "stepflow.Context", Context | None, "Context | None", Annotated[Context, "here"]]
)
def test_a_context_is_known_by_its_annotation(hint):
    app = Components()

    def call(input, here):
        return 1

    call.__annotations__ = {"here": hint}
    app.component("/call")(call)

    assert app.get("call").parameters.context == "here"


def test_the_context_may_stand_first():
    app = Components()

    @app.component
    def call(ctx: Context, text: str) -> str:
        return text

    assert app.get("call").parameters.input == "text"
    assert app.infos()[0].input_schema == {"type": "string"}


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    assert "it could never run" in refusal(Components().component("/a", max_concurrency=limit), double)


@pytest.mark.parametrize("settings", [{"size": 0}, {"size": 2, "wait_ms": -1}, {"size": 2, "wait_ms": float("inf")}])
def test_a_batch_that_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match="a batch"):
        Batch(**settings)


def test_what_a_process_cannot_import_is_refused():
    def local(input):
        return 1

    register = Components().component("/a", process=True)

    for function in (local, lambda input: 1):
        text = refusal(register, function)
        assert "not a function at the top of a module" in text
        assert "move it to the top of a module of its own" in text

    def script(input):
        return 1

    script.__module__, script.__qualname__ = "__main__", "script"
    assert "stands in the script that was started" in refusal(register, script)


def test_a_lifespan_that_a_process_cannot_import_is_refused():
    def local():
        yield 1

    text = refusal(Components(lifespan=local).component("/a", process=True), double)

    assert "the lifespan" in text
    assert "local" in text
