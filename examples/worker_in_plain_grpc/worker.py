"""A worker in nothing but gRPC and the generated messages, as one in any other language would be.

python -m grpc_tools.protoc -I PROTOS --python_out=. --grpc_python_out=. PROTOS/stepflow/v1/*.proto
touch stepflow/__init__.py stepflow/v1/__init__.py
python worker.py 127.0.0.1:7840 cpu

The generated package is called `stepflow` too: the empty files keep it apart from an installed one.
"""

import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from stepflow.v1 import orchestrator_pb2, orchestrator_pb2_grpc, tasks_pb2, tasks_pb2_grpc

COMPONENTS = {"double": lambda n: n * 2, "fails": lambda n: 1 / 0}
SLOTS = 4
WORKER_ID = str(uuid.uuid4())
AGAIN_S = (1, 2, 4, 8, 16, 30)


def main(address: str, queue: str) -> None:
    slots = threading.Semaphore(SLOTS)
    with ThreadPoolExecutor(SLOTS) as pool:
        for _ in range(100):  # connect again when the stream breaks, as long as it is worth while
            with grpc.insecure_channel(address) as channel:
                request = tasks_pb2.PullTasksRequest(queue_name=queue, worker_id=WORKER_ID)
                try:
                    for task in tasks_pb2_grpc.TasksServiceStub(channel).PullTasks(request):
                        if task.WhichOneof("task") == "list_components":
                            tell_components(task)
                            continue
                        slots.acquire()  # read no more than can begin soon
                        pool.submit(perform, task).add_done_callback(lambda done: slots.release())
                except grpc.RpcError as error:
                    print("the stream broke:", error.code().name, file=sys.stderr)
                    threading.Event().wait(1)


def orchestrator(task):
    channel = grpc.insecure_channel(task.context.orchestrator_service_url)
    return orchestrator_pb2_grpc.OrchestratorServiceStub(channel)


def tell_components(task):
    """Answer at once, also when every slot is busy, and each time it is asked."""
    answer = orchestrator_pb2.CompleteTaskRequest(task_id=task.task_id)
    for name in COMPONENTS:
        answer.list_components.components.add(component_id=name, path=f"/{name}")
    complete(orchestrator(task), answer)


def perform(task):
    run_id = task.execute.observability.run_id
    calls = orchestrator(task)
    beat = orchestrator_pb2.TaskHeartbeatRequest(task_id=task.task_id, worker_id=WORKER_ID, run_id=run_id)
    if not claimed(calls, beat):
        return
    ended = threading.Event()
    beating = threading.Thread(target=keep_beating, args=(calls, beat, task.heartbeat_interval_secs or 1, ended))
    beating.start()
    answer = orchestrator_pb2.CompleteTaskRequest(task_id=task.task_id, run_id=run_id)
    try:
        output = COMPONENTS[task.execute.component_id](MessageToDict(task.execute.input))
        ParseDict(output, answer.response.output)
    except Exception as error:  # noqa: BLE001  # whatever a component raises is its failure
        answer.error.code = 3  # COMPONENT_FAILED
        answer.error.message = str(error) or type(error).__name__
    complete(calls, answer)
    ended.set()
    beating.join()


def claimed(calls, beat):
    """The first heartbeat. Only a task that is ours is begun."""
    for wait_s in (1, 1, 1, 1, 1):
        try:
            return not calls.TaskHeartbeat(beat).should_abort
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                return False  # nobody waits for it any more
        threading.Event().wait(wait_s)
    return False


def keep_beating(calls, beat, every_s, ended):
    while not ended.wait(every_s):
        try:
            calls.TaskHeartbeat(beat)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                return


def complete(calls, answer):
    for wait_s in AGAIN_S:
        try:
            calls.CompleteTask(answer)
            return
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                return  # NOT_FOUND: it is done with
        threading.Event().wait(wait_s)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
