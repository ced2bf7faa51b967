"""The reference of the wire says what the protocol has."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

from stepflow_grpc.messages import FILES, POOL

DOCS = Path(__file__).parents[2] / "docs"


def reader() -> Any:
    spec = importlib.util.spec_from_file_location("wire", DOCS / "wire.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OURS = [name.removeprefix("stepflow/").removesuffix(".proto") for name in FILES if name.startswith("stepflow/")]


def test_every_file_of_the_protocol_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "wire.md").read_text()

    assert sorted(re.findall(r"```{wire} (\S+)", page)) == sorted(OURS)


@pytest.mark.parametrize("name", OURS)
def test_every_message_has_its_fields_with_their_numbers(name: str) -> None:
    wire = reader()
    blocks = {block.name: block for block in wire.blocks((wire.PROTOS / f"{name}.proto").read_text())}
    file = POOL.FindFileByName(f"stepflow/{name}.proto")

    for message in file.message_types_by_name.values():
        fields = [(field.name, str(field.number)) for field in message.fields]
        assert sorted((row.name, row.number) for row in blocks.pop(message.name).rows) == sorted(fields)
    for enum in file.enum_types_by_name.values():
        values = [(value.name, str(value.number)) for value in enum.values]
        assert [(row.name, row.number) for row in blocks.pop(enum.name).rows] == values
    for service in file.services_by_name.values():
        assert [row.name for row in blocks.pop(service.name).rows] == [method.name for method in service.methods]
    assert not blocks


@pytest.mark.parametrize("name", [name for name in OURS if name.startswith("v1/")])
def test_every_method_says_what_it_does(name: str) -> None:
    wire = reader()
    for block in wire.blocks((wire.PROTOS / f"{name}.proto").read_text()):
        if block.kind == "service":
            assert block.text
            assert all(row.text for row in block.rows), block.name
