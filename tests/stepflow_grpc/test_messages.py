"""The protos say what the protocol says, and live beside others' copies of it."""

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool

from stepflow_grpc import messages
from stepflow_grpc.proto import stepflow_v1
from stepflow_grpc.proto.regenerate import DESCRIPTORS, compiled
from stepflow_grpc.proto.stubs import stubs

SERVICES = {
    "TasksService": 2,
    "OrchestratorService": 4,
    "BlobService": 2,
    "FlowsService": 4,
    "RunsService": 10,
    "ComponentsService": 1,
    "HealthService": 1,
}


def test_the_committed_descriptors_are_those_of_the_protos() -> None:
    pytest.importorskip("grpc_tools")

    assert DESCRIPTORS.read_bytes() == compiled()


def test_the_committed_stubs_are_those_of_the_descriptors() -> None:
    for name, text in stubs(DESCRIPTORS.read_bytes()).items():
        assert DESCRIPTORS.with_name(name).read_text() == text


def test_messages_are_imported_by_their_names() -> None:
    assert stepflow_v1.TaskAssignment is messages.MESSAGES["TaskAssignment"]
    with pytest.raises(AttributeError, match=r"stepflow.v1 has no message Nothing"):
        stepflow_v1.Nothing  # noqa: B018


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_of_a_service_is_there(service: str) -> None:
    methods = messages.methods(service)

    assert len(methods) == SERVICES[service]
    assert all(method.path == f"/stepflow.v1.{service}/{name}" for name, method in methods.items())


def test_two_methods_stream() -> None:
    streams = [name for service in SERVICES for name, method in messages.methods(service).items() if method.streams]

    assert streams == ["PullTasks", "GetRunEvents"]


def test_nothing_is_put_into_the_pool_that_all_share() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("stepflow.v1.TaskAssignment")


@pytest.mark.parametrize("is_first", [True, False])
def test_another_copy_of_the_same_names_may_be_loaded_too(is_first: bool) -> None:
    theirs = (
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "from importlib.resources import files\n"
        "content = (files('stepflow_grpc') / 'proto' / 'stepflow_v1.binpb').read_bytes()\n"
        "import google.protobuf.struct_pb2, google.protobuf.timestamp_pb2\n"
        "for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:\n"
        "    if file.name.startswith('stepflow/'):\n"
        "        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())\n"
        "descriptor_pool.Default().FindMessageTypeByName('stepflow.v1.TaskAssignment')\n"
    )
    ours = "from stepflow_grpc.messages import new\nassert new('TaskAssignment', task_id='x').task_id == 'x'\n"

    done = subprocess.run(
        [sys.executable, "-c", theirs + ours if is_first else ours + theirs], capture_output=True, timeout=240
    )

    assert done.returncode == 0, done.stderr.decode()


def test_the_core_is_imported_without_it() -> None:
    script = "import stepflow, sys; stepflow.Engine; assert not any('google.protobuf' in name for name in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=240)

    assert done.returncode == 0, done.stderr.decode()
