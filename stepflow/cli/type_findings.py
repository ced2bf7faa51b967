"""What the types of a flow's values say."""

from collections.abc import Mapping

from stepflow.errors import Problem
from stepflow.flow.read import read_flow
from stepflow.plan.checks import located
from stepflow.plan.types import type_check
from stepflow.records import ComponentInfo


def type_findings(name: str, components: Mapping[str, ComponentInfo], *, strict: bool) -> tuple[Problem, ...]:
    flow = read_flow(name)
    return located(type_check(flow, components.get, strict=strict), flow)
