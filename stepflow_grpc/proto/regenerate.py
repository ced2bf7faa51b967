"""Compile the protos beside this file, and write stubs: `make proto`. Needs grpcio-tools; users do not."""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from stepflow_grpc.proto.stubs import stubs

HERE = Path(__file__).parent
DESCRIPTORS = HERE / "stepflow_v1.binpb"


def compiled() -> bytes:
    """The descriptor set of all protos, with what they import.

    Raises:
        RuntimeError: protoc refuses them; it has said why.
    """
    from grpc_tools import protoc

    protos = sorted(path.relative_to(HERE).as_posix() for path in HERE.glob("**/*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "set.binpb"
        include = str(files("grpc_tools") / "_proto")
        arguments = ["protoc", f"-I{HERE}", f"-I{include}", "--include_imports", f"--descriptor_set_out={out}", *protos]
        if protoc.main(arguments):
            raise RuntimeError("protoc refused the protos")
        return out.read_bytes()


if __name__ == "__main__":
    found = compiled()
    DESCRIPTORS.write_bytes(found)
    for name, text in stubs(found).items():
        (HERE / name).write_text(text)
    sys.stdout.write(f"wrote {DESCRIPTORS.name} and stubs of its messages\n")
