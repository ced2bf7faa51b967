"""Stepflow: a workflow engine that a Python program can embed.

The names below load on first use (PEP 562), so that `import stepflow` stays inert and light.
"""

from importlib import import_module

TYPE_CHECKING = False  # that of `typing`, whose import would be most of this one: an interrupt of it can't be heeded
if TYPE_CHECKING:
    from stepflow.blocking import SyncEngine, SyncRun, run, run_batch
    from stepflow.components import Batch, Components, Context
    from stepflow.config import open_engine
    from stepflow.engine import Engine
    from stepflow.errors import (
        AmbiguousRunError,
        BlobNotFoundError,
        ComponentError,
        ConfigError,
        EngineClosedError,
        FlowInvalidError,
        InputInvalidError,
        InvalidInputError,
        LeaseLostError,
        ResourceUnavailableError,
        RetryAfter,
        RunActiveError,
        RunFailedError,
        RunNotFoundError,
        SecretKeyError,
        StepflowError,
        StoreError,
        StoreInUseError,
    )
    from stepflow.execution.handle import Run
    from stepflow.execution.options import RecoverySettings, RetentionSettings
    from stepflow.flow.model import Flow
    from stepflow.flow.read import flow_text, read_flow
    from stepflow.history.explanation import Explanation
    from stepflow.records import ErrorCode, Failed, ItemResult, Json, RunRecord, RunStatus, Succeeded

__version__ = "0.1.0"

_HOMES = {
    "AmbiguousRunError": "errors",
    "Batch": "components",
    "BlobNotFoundError": "errors",
    "ComponentError": "errors",
    "Components": "components",
    "ConfigError": "errors",
    "Context": "components",
    "Engine": "engine",
    "EngineClosedError": "errors",
    "ErrorCode": "records",
    "Explanation": "history.explanation",
    "Failed": "records",
    "Flow": "flow.model",
    "FlowInvalidError": "errors",
    "InputInvalidError": "errors",
    "InvalidInputError": "errors",
    "ItemResult": "records",
    "Json": "records",
    "LeaseLostError": "errors",
    "RecoverySettings": "execution.options",
    "ResourceUnavailableError": "errors",
    "RetentionSettings": "execution.options",
    "RetryAfter": "errors",
    "Run": "execution.handle",
    "RunActiveError": "errors",
    "RunFailedError": "errors",
    "RunNotFoundError": "errors",
    "RunRecord": "records",
    "RunStatus": "records",
    "SecretKeyError": "errors",
    "StepflowError": "errors",
    "StoreError": "errors",
    "StoreInUseError": "errors",
    "Succeeded": "records",
    "SyncEngine": "blocking",
    "SyncRun": "blocking",
    "flow_text": "flow.read",
    "open_engine": "config",
    "read_flow": "flow.read",
    "run": "blocking",
    "run_batch": "blocking",
}

__all__ = [
    "AmbiguousRunError",
    "Batch",
    "BlobNotFoundError",
    "ComponentError",
    "Components",
    "ConfigError",
    "Context",
    "Engine",
    "EngineClosedError",
    "ErrorCode",
    "Explanation",
    "Failed",
    "Flow",
    "FlowInvalidError",
    "InputInvalidError",
    "InvalidInputError",
    "ItemResult",
    "Json",
    "LeaseLostError",
    "RecoverySettings",
    "ResourceUnavailableError",
    "RetentionSettings",
    "RetryAfter",
    "Run",
    "RunActiveError",
    "RunFailedError",
    "RunNotFoundError",
    "RunRecord",
    "RunStatus",
    "SecretKeyError",
    "StepflowError",
    "StoreError",
    "StoreInUseError",
    "Succeeded",
    "SyncEngine",
    "SyncRun",
    "flow_text",
    "open_engine",
    "read_flow",
    "run",
    "run_batch",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
