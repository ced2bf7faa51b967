"""The messages of `stepflow.worker.v1` by name, of the private pool. The stub beside this file says their fields."""

from typing import Any

from stepflow_grpc.messages import message


def __getattr__(name: str) -> Any:
    try:
        found = message(f"stepflow.worker.v1.{name}")
    except KeyError:
        raise AttributeError(f"stepflow.worker.v1 has no message {name}") from None
    globals()[name] = found
    return found
