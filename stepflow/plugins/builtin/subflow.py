"""What eval, map and iterate share: which flow they run, and how a result looks as data."""

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from stepflow.errors import InvalidInputError
from stepflow.protocols import SubRun
from stepflow.records import BlobId, ErrorCode, Failed, Json, Outcome, outcome_to_json

FlowId: TypeAlias = Annotated[
    str,
    # the length too: in Python's expressions `$` stands before a last line break as well
    Meta(pattern="^[0-9a-fA-F]{64}$", max_length=64, description="The id of a stored flow: 64 hexadecimal digits."),
]
FlowDocument: TypeAlias = Annotated[
    dict[str, Json],
    Meta(description="A flow document. Write it as {$literal: …}, or its expressions belong to the flow around it."),
]
Variables: TypeAlias = Annotated[
    dict[str, Json],
    Meta(description="Values of the inner flow's variables. What it declares and is not given is passed down."),
]
Overrides: TypeAlias = Annotated[dict[str, Json], Meta(description="Changes to the inner flow's steps.")]

FLOW_RESULT_SCHEMA: dict[str, Json] = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"outcome": {"const": "success"}, "result": {}},
            "required": ["outcome", "result"],
        },
        {
            "type": "object",
            "properties": {
                "outcome": {"const": "failed"},
                "error": {
                    "type": "object",
                    "properties": {
                        "code": {"type": "string", "enum": [code.value for code in ErrorCode]},
                        "message": {"type": "string"},
                        "data": {},
                    },
                    "required": ["code", "message"],
                },
            },
            "required": ["outcome", "error"],
        },
    ]
}


def chosen_flow(name: str, document: dict[str, Json] | UnsetType, flow_id: str | None) -> BlobId | Mapping[str, Json]:
    """The one flow that the input names: as a document in the field `name`, or by `flow_id`."""
    if (document is UNSET) == (flow_id is None):
        raise InvalidInputError(f"give either `{name}` or `flow_id` - at `$`")
    return document if flow_id is None and document is not UNSET else str(flow_id).lower()


def only_outcome(sub_run: SubRun) -> Outcome:
    """The outcome of a sub-run of one item."""
    if sub_run.results:
        return sub_run.results[0]
    return Failed(ErrorCode.CANCELLED, f"sub-run {sub_run.id} ended as {sub_run.status.value} without a result")


def flow_result(outcome: Outcome) -> dict[str, Json]:
    """An outcome as data for the flow around it: the structured cause stays, backtraces are dropped."""
    if isinstance(outcome, Failed):
        outcome = Failed(outcome.code, outcome.message, _without_backtraces(outcome.data))
    return outcome_to_json(outcome)


def _without_backtraces(data: Json) -> Json:
    if not isinstance(data, dict):
        return data
    kept = {name: value for name, value in data.items() if name not in ("backtrace", "traceback")}
    stack = kept.get("stack")
    if isinstance(stack, list):
        kept["stack"] = [_without_backtraces(entry) for entry in stack]
    return kept
