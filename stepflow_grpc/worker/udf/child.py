"""The process that calls functions: `python -m stepflow_grpc.worker.udf.child PID`.

It limits itself before it is given any code, and ends with its parent.
"""

import asyncio
import base64
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO

import msgspec

from stepflow.flow.path import format_path
from stepflow.flow.schema import SchemaError, SchemaValidator
from stepflow.parent import end_with, leave_signals_to_parent
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.records import BlobId, Json
from stepflow_grpc.worker.udf.code import CodeError, Function, arguments, compiled
from stepflow_grpc.worker.udf.records import (
    Answer,
    Ask,
    Code,
    Facts,
    FromProcess,
    Order,
    Ready,
    Refused,
    Reply,
    Settings,
    ToProcess,
    UdfLimits,
)

if sys.platform != "win32":
    import resource

_SHOWN = 3  # violations of an input
_LONGEST_TRACE = 4_000  # characters
_DECODER = msgspec.json.Decoder(ToProcess)


def main() -> None:
    leave_signals_to_parent()
    end_with(int(sys.argv[1]))
    pipe = _Pipe(*_take_pipes())
    limits = msgspec.json.decode(pipe.line(), type=Settings).limits
    _limit(limits)
    pipe.say(Ready())
    with asyncio.Runner() as runner:
        caller = _Caller(pipe, runner, limits)
        while line := pipe.line():
            order = _DECODER.decode(line)
            if isinstance(order, Order):
                pipe.say(caller.answer(order))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """What functions print goes to stderr, and they read nothing."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, answers


def _limit(limits: UdfLimits) -> None:
    if sys.platform == "win32":
        return
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_s * (limits.calls + 1)),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _limit_call(cpu_s: int) -> None:
    """Let this call use so much of the processor, beyond what calls before it have used."""
    if sys.platform == "win32":
        return
    use = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(use.ru_utime + use.ru_stime) + 1 + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


class _Pipe:
    def __init__(self, orders: BinaryIO, answers: BinaryIO) -> None:
        self._orders = orders
        self._answers = answers

    def line(self) -> bytes:
        return self._orders.readline()

    def say(self, said: FromProcess) -> None:
        rest = memoryview(msgspec.json.encode(said) + b"\n")
        try:
            while rest:
                rest = rest[self._answers.write(rest) :]
        except OSError:
            os._exit(1)  # the parent is gone

    def ask(self, name: str, arguments: Mapping[str, Json]) -> Json:
        """Raises: RuntimeError, with what the worker says."""
        self.say(Ask(name, dict(arguments)))
        reply = _DECODER.decode(self.line())
        assert isinstance(reply, Reply)
        if reply.error is not None:
            raise RuntimeError(reply.error)
        return reply.value


class UdfContext:
    """What a function may know and ask, as its second argument."""

    def __init__(self, facts: Facts, pipe: _Pipe) -> None:
        self.run_id = facts.run_id
        self.flow_id = facts.flow_id
        self.step_id = facts.step_id
        self.attempt = facts.attempt
        self._pipe = pipe

    async def put_blob(self, data: Any, blob_type: str = "data") -> BlobId:
        """Store bytes as they are, or any other value as JSON, and give its id."""
        if isinstance(data, bytes | bytearray | memoryview):
            return str(self._pipe.ask("put_bytes", {"content": base64.b64encode(data).decode()}))
        return str(self._pipe.ask("put_blob", {"data": normalise(data)}))

    async def get_blob(self, blob_id: BlobId) -> Any:
        """The bytes of a binary blob, the value of any other."""
        found = self._pipe.ask("get_blob", {"blob_id": blob_id})
        assert isinstance(found, dict)
        return base64.b64decode(str(found["bytes"])) if "bytes" in found else found["value"]

    async def evaluate_flow(self, flow: Any, input: Any) -> Any:
        """Run a flow, given as a document, over one input as a sub-run, and give its output."""
        return self._pipe.ask("evaluate", {"flow": normalise(flow), "input": normalise(input)})

    async def evaluate_flow_by_id(self, flow_id: BlobId, input: Any) -> Any:
        return self._pipe.ask("evaluate", {"flow": flow_id, "input": normalise(input)})


class _Caller:
    """Keeps what it made of each blob."""

    def __init__(self, pipe: _Pipe, runner: asyncio.Runner, limits: UdfLimits) -> None:
        self._pipe = pipe
        self._runner = runner
        self._limits = limits
        self._made: dict[BlobId, tuple[Function, SchemaValidator] | Refused] = {}

    def answer(self, order: Order) -> Answer | Refused:
        _limit_call(self._limits.cpu_s)
        if order.code is not None:
            self._made[order.blob_id] = self._make(order.blob_id, order.code)
        made = self._made[order.blob_id]
        if isinstance(made, Refused):
            return made
        function, schema = made
        violations = schema.violations(order.input)
        if violations:
            shown = "; ".join(f"{format_path(each.path)}: {each.message}" for each in violations[:_SHOWN])
            return Refused(f"Input validation failed: {shown}")
        return self._call(function, order)

    def _make(self, blob_id: BlobId, code: Code) -> tuple[Function, SchemaValidator] | Refused:
        try:
            schema = SchemaValidator(code.input_schema)
        except SchemaError as error:
            return Refused(f"Blob {blob_id} has an 'input_schema' that can't be used: {error}")
        name = _module_name(blob_id)
        try:
            return compiled(code.code, name), schema
        except CodeError as error:
            return Refused(f"Code compilation failed: {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told to the parent
            return Refused(f"Code compilation failed: {_text(error)}", _data(error))

    def _call(self, function: Function, order: Order) -> Answer | Refused:
        context = UdfContext(order.facts, self._pipe)
        try:
            output = self._runner.run(_called(function, order.input, context))
            return Answer(normalise(output))
        except NotJsonError as error:
            return Refused(f"Function execution failed: its output is no JSON: {error}")
        except MemoryError as error:
            limit = self._limits.memory_bytes // 1024**2
            return Refused(f"Function execution failed: it needs more than {limit:,} MiB of memory", _data(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told to the parent
            return Refused(f"Function execution failed: {_text(error)}", _data(error))


async def _called(function: Function, input: Json, context: UdfContext) -> Any:
    value = function(*arguments(function, input, context))
    if inspect.isawaitable(value):
        value = await value
    if callable(getattr(value, "ainvoke", None)):
        value = await value.ainvoke(input)
    return value


def _module_name(blob_id: BlobId) -> str:
    return f"udf_{blob_id[:12]}"


def _text(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called exit({error})"
    return str(error) or type(error).__name__


def _data(error: BaseException) -> Json:
    """The lines of the function that led to the error."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith("udf_")]
    trace = "".join(traceback.format_list(frames)).rstrip()[-_LONGEST_TRACE:]
    return {"exception_type": type(error).__name__, "traceback": trace}


if __name__ == "__main__":
    main()
