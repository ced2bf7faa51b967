"""The test cases that flows carry: found, run as one batch a file, compared, and recorded."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import msgspec

from stepflow.components import Components
from stepflow.config.open import open_engine
from stepflow.config.read import ConfigSource, load_config
from stepflow.config.search import find_config
from stepflow.engine import Engine
from stepflow.errors import ConfigError, FlowInvalidError, Problem, StepflowError
from stepflow.flow.document import read_text
from stepflow.flow.model import Flow, TestCase
from stepflow.flow.read import read_flow
from stepflow.records import ItemResult, Json, outcome_to_json
from stepflow.testing.matching import difference, expected_json, normalise, outcome_matches
from stepflow.testing.recording import recorded

SCHEMA = "https://stepflow.org/schemas/v1/flow.json"
"""The `schema` of a document that wants to be a flow whatever else it holds."""

MAX_CONCURRENCY = 10

Status: TypeAlias = Literal["passed", "failed", "unexpected-new", "error"]
"""`unexpected-new`: the case has no output yet to compare with. `error`: there is no outcome to compare."""

_LOOKS_MEANT = re.compile(r"^steps\s*:.*\bcomponent\b", re.MULTILINE | re.DOTALL)  # for text that is not YAML

_CONFIG_NAMES = (
    "stepflow-config.test.yml",
    "stepflow-config.test.yaml",
    "stepflow_config.test.yml",
    "stepflow_config.test.yaml",
)


class CaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one test case. Outcomes are result objects of the flow language, normalised."""

    index: int  # in the flow's list of cases
    name: str
    status: Status
    expected: Json = None
    actual: Json = None
    diff: str = ""  # of a failed case: what was expected against what came, as YAML
    message: str = ""  # of an error


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a flow's test cases."""

    path: str
    cases: tuple[CaseReport, ...] = ()  # those that were selected
    error: StepflowError | None = None  # why none of them ran
    flow: Flow | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and all(case.status == "passed" for case in self.cases)

    def count(self, status: Status) -> int:
        return sum(case.status == status for case in self.cases)


def discover(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The flows among files and, recursively, in directories, sorted; each once.

    A file that is named is taken as it is. In a directory, whatever is not meant to be a flow is passed over: a flow
    has steps with components, or says so by its `schema`.

    Raises:
        FileNotFoundError: a path leads nowhere.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"Missing file: {path}")
        found |= dict.fromkeys(filter(is_flow, _yaml_files(path)) if path.is_dir() else [path])
    return sorted(found)


def _yaml_files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*.y*ml") if path.suffix in (".yaml", ".yml") and path.is_file())


def is_flow(path: Path) -> bool:
    """Whether a file in a directory is meant to be a flow, however broken it is."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if SCHEMA not in text and "steps" not in text:
        return False
    try:
        document = read_text(text, str(path), "yaml").value
    except FlowInvalidError:
        return SCHEMA in text or _LOOKS_MEANT.search(text) is not None
    return isinstance(document, dict) and (document.get("schema") == SCHEMA or _has_steps(document))


def _has_steps(document: Mapping[str, Json]) -> bool:
    steps = document.get("steps")
    return isinstance(steps, list) and any(isinstance(step, dict) and "component" in step for step in steps)


def run_file(
    path: str | os.PathLike[str],
    *,
    config: ConfigSource = None,
    case_names: Sequence[str] = (),
    default_config: ConfigSource = None,
    components: Components | Mapping[str, Components] | None = None,
    max_concurrency: int = MAX_CONCURRENCY,
) -> FileReport:
    """Run the test cases of a flow, all in one batch, on an engine of their own that keeps nothing.

    Never raises for what is wrong with the flow, its configuration or its cases: the report says it.

    Args:
        config: stands above the configuration that the flow names, and above those beside it.
        case_names: the cases to run; none: all.
        default_config: stands below them, above the ordinary search.
        components: registries mounted beside the configuration's routes.
    """
    try:
        flow = read_flow(path)
        cases = _selected(flow, case_names)
        if not cases:
            return FileReport(path=str(path), flow=flow)
        source, directory = _config(path, flow, config, default_config)
        read = load_config(source, environ=os.environ, directory=directory)
        engine = open_engine(read, components=components, max_concurrency=max_concurrency, store=None)
        results = anyio.run(_results, engine, flow, [case.input for _, case in cases])
    except StepflowError as error:
        return FileReport(path=str(path), error=error)
    reports = (_report(index, case, results.get(item)) for item, (index, case) in enumerate(cases))
    return FileReport(path=str(path), cases=tuple(reports), flow=flow)


def case_names(flow: Flow) -> list[str]:
    return [case.name for case in flow.test.cases] if flow.test is not None else []


def _selected(flow: Flow, names: Sequence[str]) -> list[tuple[int, TestCase]]:
    cases = flow.test.cases if flow.test is not None else ()
    return [(index, case) for index, case in enumerate(cases) if not names or case.name in names]


async def _results(unopened: Engine, flow: Flow, inputs: Sequence[Json]) -> dict[int, ItemResult]:
    """One result a case; an input that the flow does not accept fails its own case."""
    async with unopened as engine:
        run = await engine.submit(flow, iter(inputs))
        return {result.index: result async for result in run.results()}


def _config(
    path: str | os.PathLike[str], flow: Flow, given: ConfigSource, default: ConfigSource
) -> tuple[ConfigSource, Path | None]:
    """The configuration of a flow's tests, and the directory that its paths are relative to."""
    directory = Path(path).absolute().parent
    test = flow.test
    if given is not None:
        return given, None
    if test is not None and test.config is not None and test.config_file is not None:
        problem = Problem(
            message="config and configFile are both given", path="$.test", source=str(path), remedy="keep one"
        )
        raise ConfigError([problem])
    if test is not None and test.config_file is not None:
        return directory / test.config_file, None
    if test is not None and isinstance(test.config, dict):
        return test.config, directory
    beside = next((directory / name for name in _CONFIG_NAMES if (directory / name).is_file()), None)
    return beside or default or find_config(directory, Path.cwd()), None


def _report(index: int, case: TestCase, result: ItemResult | None) -> CaseReport:
    expected = None if case.output is None else normalise(expected_json(case.output))
    if result is None:
        message = "the run ended without a result for this case"
        return CaseReport(index=index, name=case.name, status="error", expected=expected, message=message)
    actual = normalise(outcome_to_json(result.outcome))
    status: Status = "passed"
    if expected is None:
        status = "unexpected-new"
    elif not outcome_matches(expected, actual):
        status = "failed"
    diff = difference(expected, actual) if status == "failed" else ""
    return CaseReport(index=index, name=case.name, status=status, expected=expected, actual=actual, diff=diff)


def update_file(report: FileReport) -> tuple[str, ...]:
    """Record in the flow's file what came of the cases that failed or have no output yet, and give their names.

    Only their `output` changes; comments and layout stay.

    Raises:
        RecordingError: the layout of the file does not allow it; the file is as it was.
    """
    changed = [case for case in report.cases if case.status in ("failed", "unexpected-new")]
    if not changed or report.flow is None:
        return ()
    text = recorded(report.flow.origin, {case.index: case.actual for case in changed})
    Path(report.path).write_bytes(text.encode())
    return tuple(case.name for case in changed)
