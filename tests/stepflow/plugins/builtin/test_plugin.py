import re

import pytest

import stepflow
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow.routing.router import Resolved, Router
from stepflow.routing.table import parse_routes

NAMES = ["openai", "create_messages", "eval", "map", "iterate", "put_blob", "get_blob", "load_file", "noop", "sleep"]


def references(schema):
    match schema:
        case {"$ref": str(ref)}:
            yield ref
        case dict():
            for value in schema.values():
                yield from references(value)
        case list():
            for value in schema:
                yield from references(value)


def test_every_component_is_listed_under_its_path_and_under_the_builtin_prefix():
    plugin = BuiltinPlugin()

    infos = plugin.components({})

    assert [info.path for info in infos] == [f"/{name}" for name in NAMES] + [f"/builtin/{name}" for name in NAMES]
    assert [info.id for info in infos] == [f"/{name}" for name in NAMES] * 2
    assert [info.is_alias for info in infos] == [False] * len(NAMES) + [True] * len(NAMES)


def test_every_schema_is_whole_in_itself():
    jsonschema_rs = pytest.importorskip("jsonschema_rs")

    for info in BuiltinPlugin().components({}):
        for schema in (info.input_schema, info.output_schema):
            assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
            assert all(re.match(r"#/\$defs/", ref) for ref in references(schema))
            jsonschema_rs.Draft202012Validator(schema)


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["/noop", "/builtin/noop"])
async def test_a_component_answers_to_either_path(host, task, target):
    outcome = await BuiltinPlugin().perform(task(target, {"a": 1}), host)

    assert outcome == Succeeded({"a": 1})


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["/builtin", "/builtinnoop", "noop", "/builtin/builtin/noop", "/nothing"])
async def test_an_unknown_component_is_answered_with_those_there_are(host, task, target):
    outcome = await BuiltinPlugin().perform(task(target), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.COMPONENT_NOT_FOUND
    assert "/create_messages" in outcome.message


@pytest.mark.anyio
@pytest.mark.parametrize("name", [name for name in NAMES if name != "noop"])
@pytest.mark.parametrize("input", [None, 3, "text", [], {}, {"messages": 1, "items": 2, "path": 3, "blob_id": 4}])
async def test_bad_input_is_invalid_input_and_names_a_path(host, task, name, input):
    outcome = await BuiltinPlugin().perform(task(f"/{name}", input), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert " - at `$" in outcome.message


@pytest.mark.parametrize(
    "routes",
    [
        {"/builtin": [{"plugin": "builtin"}]},
        {"/": [{"plugin": "builtin"}]},
        {"/{*component}": [{"plugin": "builtin"}]},
        {"/builtin/{*component}": [{"plugin": "builtin"}]},
    ],
)
def test_every_form_of_route_leads_to_a_component(routes):
    plugin = BuiltinPlugin()
    router = Router(parse_routes(routes, ["builtin"]), lambda name, params: plugin.components(params))

    resolved = router.resolve("/builtin/eval", {})

    assert isinstance(resolved, Resolved)
    assert resolved.target == "/eval"


@pytest.mark.anyio
async def test_an_engine_lists_each_component_once_with_the_path_that_flows_write():
    async with stepflow.Engine() as engine:
        listed = await engine.list_components()

    assert [component.routes for component in listed] == [(f"/builtin/{name}",) for name in NAMES]
