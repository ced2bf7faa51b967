"""Flows, stored by their content."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from stepflow.engine import Engine
from stepflow.flow.identity import flow_id, flow_to_json
from stepflow.flow.model import Example, Flow, TestCase
from stepflow.flow.read import flow_from_json
from stepflow.plan.checks import Diagnostic, check
from stepflow.plan.variables import VariableInfo, declared
from stepflow.records import BlobId, BlobType, Json
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.refusals import invalid, not_found
from stepflow_grpc.services.blobs import blob_id_of
from stepflow_grpc.wire import fill_struct, from_struct, to_value

logger = logging.getLogger("stepflow.server")

_KEPT = (
    "flow %s was asked to be deleted, and is kept, as others will be: runs and programs may use the same content. "
    "A `retention` with `ageSecs` in the configuration deletes flows that nobody has used for so long"
)

_LEVELS = {
    "fatal": NUMBERS["DIAGNOSTIC_LEVEL_FATAL"],
    "error": NUMBERS["DIAGNOSTIC_LEVEL_ERROR"],
    "warning": NUMBERS["DIAGNOSTIC_LEVEL_WARNING"],
}


async def stored_flow(engine: Engine, id: BlobId) -> dict[str, Json]:
    """The document of a stored flow. Raises: CallError."""
    blob = await engine.backend.blobs.get(id)
    if blob is None:
        raise not_found("flow", id)
    try:
        document = msgspec.json.decode(blob.content) if blob.type is BlobType.FLOW else None
    except (msgspec.DecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise invalid(f"blob {id} is no flow")
    return document


class FlowsService:
    """Stores flows, and tells what is wrong with them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_kept_said = False

    async def StoreFlow(self, request: Any) -> Any:
        if not request.HasField("flow"):
            raise invalid("the flow is missing")
        flow = flow_from_json(from_struct(request.flow))
        found = check(flow)
        stored = not request.dry_run and not any(diagnostic.level == "fatal" for diagnostic in found)
        if stored:
            await self._engine.store_flow(flow)
        response: Any = new("StoreFlowResponse", flow_id=flow_id(flow), stored=stored)
        _fill_diagnostics(found, response.diagnostics)
        return response

    async def GetFlow(self, request: Any) -> Any:
        id = blob_id_of(request.flow_id)
        flow = flow_from_json(await stored_flow(self._engine, id))
        response: Any = new("GetFlowResponse", flow_id=id)
        fill_struct(flow_to_json(flow), response.flow)
        _fill_examples(flow, response.all_examples)
        return response

    async def DeleteFlow(self, request: Any) -> Any:
        """Nothing is deleted: other flows and runs may use the same content; retention deletes what nobody uses.

        Who asks is told yes all the same, as by the reference's server: programs clean up with it. The log says it.
        """
        id = blob_id_of(request.flow_id)
        if not self._is_kept_said:
            self._is_kept_said = True
            logger.warning(_KEPT, id)
        return new("DeleteFlowResponse")

    async def GetFlowVariables(self, request: Any) -> Any:
        id = blob_id_of(request.flow_id)
        flow = flow_from_json(await stored_flow(self._engine, id))
        response: Any = new("GetFlowVariablesResponse", flow_id=id)
        for info in declared(flow):
            _fill_variable(info, response.variables[info.name])
        return response


def _fill_variable(info: VariableInfo, variable: Any) -> None:
    variable.required = info.required
    if info.has_default and not info.implied:
        to_value(info.default, variable.default_value)
    if info.description:
        variable.description = info.description
    if info.env_var is not None:
        variable.env_var = info.env_var
    if isinstance(info.schema, dict):
        fill_struct(info.schema, variable.schema)


def _fill_examples(flow: Flow, examples: Any) -> None:
    cases = flow.test.cases if flow.test is not None else ()
    named: tuple[Example | TestCase, ...] = (*(flow.examples or ()), *cases)
    for example in named:
        entry = examples.add(name=example.name)
        if example.description:
            entry.description = example.description
        to_value(example.input, entry.input)


def _fill_diagnostics(found: Sequence[Diagnostic], diagnostics: Any) -> None:
    diagnostics.SetInParent()
    for diagnostic in found:
        entry = diagnostics.diagnostics.add(kind=diagnostic.kind, code=diagnostic.code, level=_LEVELS[diagnostic.level])
        entry.formatted = diagnostic.message
        entry.path = diagnostic.path
        entry.experimental = diagnostic.experimental
        to_value(dict(diagnostic.data), entry.data)
    diagnostics.num_fatal = sum(1 for each in found if each.level == "fatal")
    diagnostics.num_error = sum(1 for each in found if each.level == "error")
    diagnostics.num_warning = sum(1 for each in found if each.level == "warning")
