"""Compile the protos beside this file: `make proto`. Needs grpcio-tools; those who use the package do not."""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

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
    DESCRIPTORS.write_bytes(compiled())
    sys.stdout.write(f"wrote {DESCRIPTORS.name}\n")
