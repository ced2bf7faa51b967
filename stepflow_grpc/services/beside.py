"""What callers say beside their request, in the metadata of the call that is being answered."""

from contextvars import ContextVar
from typing import Any

PARENT = "stepflow-parent"
"""The step that a sub-run is submitted for: `run id/item/step`."""

KEY = "stepflow-key"
"""The caller's name for a run: submitted again under it, the same run is given."""

FORWARDED = "stepflow-forwarded"
"""Another orchestrator asks for a worker; it is not asked on. How much it wants is told in `stepflow_grpc.peers`."""

CALL: ContextVar[Any] = ContextVar("stepflow_call")
"""The context of the call that is being answered."""


def said(name: str) -> str | None:
    """What the caller says under this name; None: nothing."""
    context = CALL.get(None)
    for key, value in () if context is None else context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else None
    return None
