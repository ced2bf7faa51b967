"""A flow document becomes a Flow, or every reason why it can't."""

import os
from collections.abc import Iterable, Mapping

import msgspec

from stepflow.errors import FlowInvalidError, Problem
from stepflow.flow.document import MAX_YAML_BYTES, Document, located, open_document, open_text
from stepflow.flow.expected import read_test_section
from stepflow.flow.expression import kind, parse_expression
from stepflow.flow.fields import Fields, Findings
from stepflow.flow.model import Example, Expression, Flow, Literal, Origin, Path, Schemas, Step
from stepflow.flow.on_error import read_on_error, read_setting
from stepflow.flow.path import format_path
from stepflow.flow.plain import plain_json
from stepflow.flow.words import shorten
from stepflow.records import Json

_FLOW_KEYS = ("name", "description", "version", "schemas", "steps", "output", "test", "examples", "metadata")
_STEP_KEYS = ("id", "component", "onError", "timeout", "input", "mustExecute", "metadata")
_BUNDLE_KEYS = ("type", "$defs", "properties")
_SCHEMA_KEYS = ("input", "output", "variables", "steps")
_EXAMPLE_KEYS = ("name", "description", "input")

_MOST = 100  # problems, or warnings, that are told one by one
_NOWHERE = Origin()
_FLOW_ADVICE = {
    **dict.fromkeys(("inputSchema", "input_schema"), "the schema of the input is `schemas.properties.input`"),
    **dict.fromkeys(("outputSchema", "output_schema"), "the schema of the output is `schemas.properties.output`"),
    **dict.fromkeys(
        ("variables", "variables_schema", "variableSchema", "variablesSchema", "variable_schema"),
        "variables are declared in `schemas.properties.variables`",
    ),
    **dict.fromkeys(("stepflowConfig", "stepflow_config"), "the configuration for tests is `test.config`"),
    "input": "a flow does not bind its input: steps read it with {$input: path}",
}
_NO_SKIP = "steps are not skipped: use $if where the result is read, and the step runs only when it is needed"
_STEP_ADVICE = {
    **dict.fromkeys(("skip", "skipIf", "skip_if", "onSkip", "on_skip"), _NO_SKIP),
    **dict.fromkeys(("inputSchema", "input_schema"), "the schema of a step's input belongs to its component"),
    **dict.fromkeys(
        ("outputSchema", "output_schema"), "the schema of a step's output is `schemas.properties.steps.properties.<id>`"
    ),
    **dict.fromkeys(("retry", "maxRetries", "backoff"), "retries are set in `onError`"),
    **dict.fromkeys(("dependsOn", "depends_on", "needs"), "a step depends on the steps that its input refers to"),
}


def read_flow(
    source: str | os.PathLike[str] | Mapping[str, Json] | Flow, *, max_yaml_bytes: int = MAX_YAML_BYTES
) -> Flow:
    """Read a flow from a file or from an object. A string is always the path of a file.

    Raises:
        FlowInvalidError: with everything that is wrong.
    """
    if isinstance(source, Flow):
        return source
    if isinstance(source, Mapping):
        return flow_from_json(source)
    return _flow(open_document(source, max_yaml_bytes=max_yaml_bytes))


def flow_text(
    text: str, *, name: str | None = None, format: str = "yaml", max_yaml_bytes: int = MAX_YAML_BYTES
) -> Flow:
    """Read a flow from YAML or JSON text. `name` is what problems call the text.

    Raises:
        FlowInvalidError: with everything that is wrong.
    """
    return _flow(open_text(text, name, format, max_yaml_bytes=max_yaml_bytes))


def flow_from_json(document: Mapping[str, Json], origin: Origin = _NOWHERE) -> Flow:
    """Read a flow from an object. With an `origin`, problems say line and column in its text.

    Raises:
        FlowInvalidError: with everything that is wrong.
    """
    return _read(document, Document(value=None, origin=origin))


def _flow(document: Document) -> Flow:
    return _read(document.value, document)


def _read(value: object, document: Document) -> Flow:
    findings = Findings()
    value = plain_json(value, findings)
    flow = Flow()
    if isinstance(value, dict):
        flow = _document(Fields(value, (), findings))
    elif not document.problems and not findings.problems:
        found = "empty" if value is None else kind(value)
        findings.refuse((), f"a flow is an object, and this is {found}", "a flow has `steps` and `output`")
    problems = [*document.problems, *_located(_repeated(document.repeated, findings), document, of_key=True)]
    problems.extend(_located(findings.problems, document))
    if problems:
        raise FlowInvalidError(sorted(problems, key=_place))
    warnings = sorted(_located(findings.warnings, document, of_key=True), key=_place)
    return msgspec.structs.replace(flow, origin=document.origin, warnings=tuple(warnings))


def _located(problems: list[Problem], document: Document, *, of_key: bool = False) -> list[Problem]:
    """The first of the problems with their places, and how many more there are."""
    shown = list(located(problems[:_MOST], document.origin, root=document.root, of_key=of_key))
    if len(problems) > _MOST:
        more = f"{len(problems) - _MOST:,} more like these"
        last = shown[-1]
        shown.append(Problem(message=more, level=last.level, source=last.source, line=last.line, column=last.column))
    return shown


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


def _repeated(paths: Iterable[Path], findings: Findings) -> list[Problem]:
    """Of the keys written twice, those that the language declares; the others are only warned about."""
    declared: list[Problem] = []
    for path in paths:
        message = f"the key `{shorten(str(path[-1]))}` is written more than once"
        if _is_declared(path):
            declared.append(Problem(message=message, path=format_path(path), remedy="keep one of them"))
        else:
            findings.warn(path, f"{message}; the last one counts")
    return declared


def _is_declared(path: Path) -> bool:
    match path:
        case (key,):
            return key in _FLOW_KEYS
        case ("steps", int(), key):
            return key in _STEP_KEYS
        case ("steps", int(), "onError", _) | ("test", _) | ("test", "cases", int(), _) | ("examples", int(), _):
            return True
        case ("schemas", _) | ("schemas", "properties", _):
            return True
        case _:
            return False


def _document(fields: Fields) -> Flow:
    fields.warn_unknown(_FLOW_KEYS, _FLOW_ADVICE, silent=("schema",))  # the marker that the test command looks for
    examples = fields.objects("examples")
    return Flow(
        name=fields.string("name"),
        description=fields.string("description"),
        version=fields.string("version"),
        schemas=_schemas(fields),
        steps=tuple(_step(Fields(value, path, fields.findings)) for value, path in fields.objects("steps")),
        output=_expression(fields, "output"),
        test=read_test_section(fields),
        examples=tuple(_example(Fields(value, path, fields.findings)) for value, path in examples)
        if fields.value.get("examples") is not None
        else None,
        metadata=fields.object("metadata") or {},
    )


def _step(fields: Fields) -> Step:
    fields.warn_unknown(_STEP_KEYS, _STEP_ADVICE)
    timeout = read_setting(fields, "timeout", "a number of seconds above 0", lambda number: number > 0)
    return Step(
        id=fields.required_string("id"),
        component=fields.required_string("component"),
        input=_expression(fields, "input"),
        on_error=read_on_error(fields),
        timeout=timeout,
        must_execute=fields.boolean("mustExecute"),
        metadata=fields.object("metadata") or {},
    )


def _expression(fields: Fields, name: str) -> Expression:
    value = fields.value.get(name)
    if value is None:
        return Literal(None)
    return parse_expression(value, (*fields.at, name), fields.findings.problems, fields.findings.warnings)


def _example(fields: Fields) -> Example:
    fields.warn_unknown(_EXAMPLE_KEYS, {})
    fields.require("input", nullable=True)
    return Example(
        name=fields.required_string("name"),
        description=fields.string("description"),
        input=fields.value.get("input"),
    )


def _schemas(flow: Fields) -> Schemas:
    bundle = flow.object("schemas")
    if bundle is None:
        return Schemas()
    fields = Fields(bundle, (*flow.at, "schemas"), flow.findings)
    flat = [name for name in _SCHEMA_KEYS if bundle.get(name) is not None]
    if flat and bundle.get("properties") is None:
        names = ", ".join(f"`{name}`" for name in flat)
        fields.refuse(None, f"{names} stands directly in `schemas`", f"write schemas: {{properties: {{{flat[0]}: …}}}}")
        return Schemas()
    fields.warn_unknown(_BUNDLE_KEYS, dict.fromkeys(_SCHEMA_KEYS, "put it into `schemas.properties`"))
    faces = Fields(fields.object("properties") or {}, (*fields.at, "properties"), flow.findings)
    faces.warn_unknown(_SCHEMA_KEYS, {})
    return Schemas(
        defs=_schema_map(fields, "$defs"),
        input=_schema(faces, "input"),
        output=_schema(faces, "output"),
        variables=_schema(faces, "variables"),
        steps=_step_schemas(faces),
    )


def _step_schemas(faces: Fields) -> dict[str, Json]:
    steps = Fields(faces.object("steps") or {}, (*faces.at, "steps"), faces.findings)
    steps.warn_unknown(("type", "properties"), {})
    return _schema_map(steps, "properties")


def _schema_map(fields: Fields, name: str) -> dict[str, Json]:
    members = Fields(fields.object(name) or {}, (*fields.at, name), fields.findings)
    return {key: schema for key in members.value if (schema := _schema(members, key)) is not None}


def _schema(fields: Fields, name: str) -> Json:
    value = fields.value.get(name)
    if value is None or isinstance(value, dict | bool):
        return value
    fields.refuse(name, f"a schema is an object, true or false, not {kind(value)}", "write {type: …}")
    return None
