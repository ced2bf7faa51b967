"""What is wrong or doubtful in a flow's or a configuration's file, every finding with its place."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from stepflow.config.open import missing_plugins
from stepflow.config.read import load_config
from stepflow.errors import ConfigError, FlowInvalidError, Problem
from stepflow.flow.document import load_document
from stepflow.flow.document import located as placed
from stepflow.flow.read import read_flow
from stepflow.plan.checks import check, located, located_in
from stepflow.plan.config_checks import check_config
from stepflow.plan.types import type_check
from stepflow.records import ComponentInfo, Json


def flow_findings(name: str, *, experimental: bool = False) -> tuple[Problem, ...]:
    """What keeps the file from being read, or every diagnostic; experimental ones only where they are asked for."""
    try:
        flow = read_flow(name)
    except FlowInvalidError as error:
        return error.problems
    shown = [found for found in check(flow) if experimental or not found.experimental]
    return (*flow.warnings, *located(shown, flow))


def type_findings(name: str, components: Mapping[str, ComponentInfo], *, strict: bool) -> tuple[Problem, ...]:
    """What the types say beyond `flow_findings`. Under `strict`, a type that cannot be told is an error."""
    flow = read_flow(name)
    known = [(found.code, found.place) for found in check(flow)]
    found = type_check(flow, components.get, strict=strict)
    shown = located([each for each in found if (each.code, each.place) not in known], flow)
    return tuple(replace(each, level="error") if strict else each for each in shown)


def config_findings(file: Path | None) -> tuple[Problem, ...]:
    """Nothing for the built-in default."""
    if file is None:
        return ()
    try:
        document = load_document(file, error=ConfigError)
        diagnostics = check_config(_section(document.value, "plugins"), _section(document.value, "routes"))
        found = located_in(diagnostics, document.origin)
    except ConfigError as error:
        return error.problems
    try:
        config = load_config(file, environ=os.environ)
    except ConfigError as error:
        known = [(problem.line, problem.column) for problem in found]
        return (*found, *(each for each in error.problems if (each.line, each.column) not in known))
    return (*found, *config.warnings, *placed(missing_plugins(config), document.origin))


def _section(value: Json, name: str) -> Mapping[str, Json]:
    section = value.get(name) if isinstance(value, dict) else None
    return section if isinstance(section, dict) else {}
