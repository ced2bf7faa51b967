"""The messages of `stepflow.v1` and of our own `stepflow.worker.v1`, in a descriptor pool of their own.

Generated code of the same full names registers itself in the pool that a process shares; two copies of it cannot be
loaded together. Here the committed descriptors are loaded into a private pool, well-known types included, so that a
program may import this package beside any other that speaks the protocol, in either order.
"""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

PACKAGE = "stepflow.v1"
WORK_PACKAGE = "stepflow.worker.v1"


def _load() -> tuple[descriptor_pool.DescriptorPool, list[str]]:
    content = (files("stepflow_grpc") / "proto" / "stepflow_v1.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(content)
    for file in descriptors.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool, [file.name for file in descriptors.file]


POOL, FILES = _load()


def message(full_name: str) -> Any:
    """The class of a message; messages of other files that it holds are of the same pool."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def _messages() -> Mapping[str, Any]:
    return {
        name: message(found.full_name)
        for file in FILES
        if file.startswith("stepflow/v1/")
        for name, found in POOL.FindFileByName(file).message_types_by_name.items()
    }


def _numbers() -> Mapping[str, int]:
    return {
        value.name: value.number
        for file in FILES
        if file.startswith("stepflow/")
        for enum in POOL.FindFileByName(file).enum_types_by_name.values()
        for value in enum.values
    }


MESSAGES = _messages()
"""By name, such as `TaskAssignment`."""

NUMBERS = _numbers()
"""Of enum values by name, such as `TASK_STATUS_IN_PROGRESS`."""

Value = message("google.protobuf.Value")
Struct = message("google.protobuf.Struct")
Timestamp = message("google.protobuf.Timestamp")
Frame = message(f"{WORK_PACKAGE}.Frame")


def by_name(package: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that gives the messages of a package."""

    def find(name: str) -> Any:
        try:
            return message(f"{package}.{name}")
        except KeyError:
            raise AttributeError(f"{package} has no message {name}") from None

    return find


class Method:
    """One method of a service, as a server registers it and a client calls it."""

    def __init__(self, descriptor: Any) -> None:
        service = descriptor.containing_service.full_name
        self.name: str = descriptor.name
        self.path = f"/{service}/{self.name}"
        self.request = message(descriptor.input_type.full_name)
        self.response = message(descriptor.output_type.full_name)
        self.takes_stream = bool(getattr(descriptor, "client_streaming", False))
        self.streams = bool(getattr(descriptor, "server_streaming", False))


def methods(service: str, package: str = PACKAGE) -> dict[str, Method]:
    """The methods of a service by name. Raises: KeyError."""
    found = POOL.FindServiceByName(f"{package}.{service}")
    return {name: Method(method) for name, method in found.methods_by_name.items()}


def new(name: str, **fields: Any) -> Message:
    """A message of `stepflow.v1` by its name."""
    built: Message = MESSAGES[name](**fields)
    return built
