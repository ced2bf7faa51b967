"""Type stubs of our messages, written from their descriptors: `make proto`."""

import re
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

MODULES = {"stepflow.v1": "stepflow_v1", "stepflow.worker.v1": "stepflow_worker_v1"}
"""Which module beside this file gives the messages of which package."""

_IMPORTS = {
    "collections.abc": ("Iterable", "Mapping"),
    "typing": ("Any", "Literal"),
    "google.protobuf.descriptor": ("Descriptor",),
    "google.protobuf.internal.containers": (
        "MessageMap",
        "RepeatedCompositeFieldContainer",
        "RepeatedScalarFieldContainer",
        "ScalarMap",
    ),
    "google.protobuf.message": ("Message",),
    "google.protobuf.struct_pb2": ("Struct", "Value"),
    "google.protobuf.timestamp_pb2": ("Timestamp",),
}

_WELL_KNOWN = {f".google.protobuf.{name}": name for name in ("Struct", "Value", "Timestamp")}
_SCALARS = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_DOUBLE: "float",
    FieldDescriptorProto.TYPE_ENUM: "int",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT32: "int",
    FieldDescriptorProto.TYPE_INT64: "int",
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_UINT32: "int",
    FieldDescriptorProto.TYPE_UINT64: "int",
}


def stubs(descriptors: bytes) -> dict[str, str]:
    """What each stub file says, by its name. `descriptors`: the compiled set."""
    found = FileDescriptorSet.FromString(descriptors)
    return {
        f"{module}.pyi": _module(
            package, [message for file in found.file if file.package == package for message in file.message_type]
        )
        for package, module in MODULES.items()
    }


def _module(package: str, messages: Sequence[DescriptorProto]) -> str:
    body = "\n\n".join("\n".join(_message(message)) for message in messages)
    said = f'"""The messages of `{package}`, as a type checker sees them. Written by `make proto`."""'
    names = "# ruff: noqa: N802\n\n" if "def HasField" in body else ""
    return f"{said}\n\n{names}{_imports(body)}\n\n{body}\n"


def _imports(body: str) -> str:
    lines: list[str] = []
    for module, names in _IMPORTS.items():
        used = [name for name in names if re.search(rf"\b{name}\b", body)]
        if lines and module == "google.protobuf.descriptor":
            lines.append("")
        if len(used) > 2:
            lines += [f"from {module} import (", *(f"    {name}," for name in used), ")"]
        elif used:
            lines.append(f"from {module} import {', '.join(used)}")
    return "\n".join(lines)


def _message(message: DescriptorProto) -> Iterator[str]:
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    assert len(maps) == len(message.nested_type), "a nested message wants a name of its own"
    yield f"class {message.name}(Message):"
    yield "    DESCRIPTOR: Descriptor"
    for field in message.field:
        type = _read_type(field, maps)
        if _is_repeated(field) or field.type == FieldDescriptorProto.TYPE_MESSAGE:
            yield "    @property"
            yield f"    def {field.name}(self) -> {type}: ..."
        else:
            yield f"    {field.name}: {type}"
    given = [f"{field.name}: {_given_type(field, maps)} | None = ..." for field in message.field]
    yield from _method("__init__", given)
    choices = _choices(message)
    present = [field.name for field in message.field if _has_presence(field)]
    if present:
        yield from _question("HasField", "field_name", [*present, *choices], "bool")
    for choice, names in choices.items():
        answer = f"{_literal(names)} | None"
        yield from _question("WhichOneof", "oneof_group", [choice], answer if len(answer) < 100 else "str | None")


def _method(name: str, arguments: Sequence[str]) -> Iterator[str]:
    if not arguments:
        yield f"    def {name}(self) -> None: ..."
        return
    yield f"    def {name}("
    yield from (f"        {argument}," for argument in ("self", "*", *arguments))
    yield "    ) -> None: ..."


def _question(name: str, argument: str, words: Sequence[str], answer: str) -> Iterator[str]:
    line = f"    def {name}(self, {argument}: {_literal(words)}) -> {answer}: ..."
    if len(line) <= 120:
        yield line
        return
    yield f"    def {name}("
    if len(f"        self, {argument}: {_literal(words)}") <= 120:
        yield f"        self, {argument}: {_literal(words)}"
    else:
        yield "        self,"
        yield f"        {argument}: Literal["
        yield from (f'            "{word}",' for word in words)
        yield "        ],"
    yield f"    ) -> {answer}: ..."


def _literal(words: Sequence[str]) -> str:
    quoted = ", ".join(f'"{word}"' for word in words)
    return f"Literal[{quoted}]"


def _choices(message: DescriptorProto) -> dict[str, list[str]]:
    """The oneofs that are written, and what they choose from. An optional field has one too, unwritten."""
    found: dict[str, list[str]] = {}
    for field in message.field:
        if field.HasField("oneof_index") and not field.proto3_optional:
            found.setdefault(message.oneof_decl[field.oneof_index].name, []).append(field.name)
    return found


def _is_repeated(field: FieldDescriptorProto) -> bool:
    return field.label == FieldDescriptorProto.LABEL_REPEATED


def _has_presence(field: FieldDescriptorProto) -> bool:
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
    return not _is_repeated(field) and (is_message or field.HasField("oneof_index"))


def _single(field: FieldDescriptorProto) -> str:
    if field.type != FieldDescriptorProto.TYPE_MESSAGE:
        return _SCALARS[field.type]
    return _WELL_KNOWN.get(field.type_name) or field.type_name.rpartition(".")[2]


def _read_type(field: FieldDescriptorProto, maps: Mapping[str, DescriptorProto]) -> str:
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        of_messages = value.type == FieldDescriptorProto.TYPE_MESSAGE
        return f"{'MessageMap' if of_messages else 'ScalarMap'}[{_single(key)}, {_single(value)}]"
    if not _is_repeated(field):
        return _single(field)
    of_messages = field.type == FieldDescriptorProto.TYPE_MESSAGE
    return f"Repeated{'Composite' if of_messages else 'Scalar'}FieldContainer[{_single(field)}]"


def _given_type(field: FieldDescriptorProto, maps: Mapping[str, DescriptorProto]) -> str:
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"Mapping[{_single(key)}, {_single(value)}]"
    type = "int | str" if field.type == FieldDescriptorProto.TYPE_ENUM else _single(field)
    if field.type_name in _WELL_KNOWN:
        type += " | Mapping[str, Any]"
    return f"Iterable[{type}]" if _is_repeated(field) else type
