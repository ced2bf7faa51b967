"""Callers that mean no good: bytes, frames and messages that nobody in his senses sends, drawn from a seed."""

import asyncio
import contextlib
import json
import random
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor

from stepflow_grpc.messages import PACKAGE, POOL, WORK_PACKAGE, Method, methods

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = (
    b'POST /health HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"a": [1,2]}'
)
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"

SERVICES = (
    *(
        (PACKAGE, name)
        for name in (
            "BlobService",
            "ComponentsService",
            "FlowsService",
            "HealthService",
            "OrchestratorService",
            "RunsService",
            "TasksService",
        )
    ),
    *((WORK_PACKAGE, name) for name in ("BatchService", "BeatService", "WorkService")),
    ("grpc.health.v1", "Health"),
    ("grpc.reflection.v1", "ServerReflection"),
)

NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
"""What no caller may be answered: it stands for something that nobody thought of."""


_OF_CLIENT = "Internal error from Core"
"""What gRPC's own client makes of a write to a call that has just ended."""


class Hostile:
    """Draws what to send.

    Args:
        words: texts that mean something to the server, such as the id of a run.
    """

    def __init__(self, seed: int, words: list[str]) -> None:
        self.random = random.Random(seed)
        odd = ["", "\x00", "é" * 50, "x" * 10_000, "../../etc/passwd", "0" * 64, "None", "{}", "/", "9" * 400]
        self._words, self._odd = words or odd, odd

    # Bytes

    def noise(self, most: int = 2_000) -> bytes:
        return self.random.randbytes(self.random.randrange(most))

    def http(self) -> bytes:
        """A request by HTTP/1 that went wrong somewhere."""
        request = bytearray(REQUEST)
        for _ in range(self.random.randrange(1, 6)):
            at = self.random.randrange(len(request))
            match self.random.randrange(4):
                case 0:
                    request[at] = self.random.randrange(256)
                case 1:
                    del request[at : at + self.random.randrange(20)]
                case 2:
                    request[at:at] = self.noise(50)
                case 3:
                    request[at:at] = b"x-more: y\r\n" * self.random.randrange(3_000)
        return bytes(request)

    def http_2(self) -> bytes:
        """A connection by HTTP/2 of random frames, some of them longer or shorter than they say."""
        sent = PREFACE + (SETTINGS if self.random.random() < 0.9 else b"")
        for _ in range(self.random.randrange(1, 12)):
            payload = self.noise(200)
            said = len(payload) if self.random.random() < 0.7 else self.random.choice([0, 2**24 - 1, 2**14 + 1, 5])
            kind, flags = self.random.randrange(12), self.random.randrange(256)
            stream = self.random.choice([0, 1, 2, 3, 5, 2**31 - 1])
            sent += said.to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload
        return sent

    # Messages

    def message(self, kind: Any, depth: int = 0) -> Any:
        """A message whose fields are set at random, to what a program might send or to what none would."""
        found = kind()
        for field in found.DESCRIPTOR.fields:
            if self.random.random() < (0.6 if depth < 4 else 0.1):
                with contextlib.suppress(TypeError, ValueError):
                    self._fill(found, field, depth)
        return found

    def _fill(self, into: Any, field: Any, depth: int) -> None:
        value = getattr(into, field.name)
        is_list = type(value).__name__.startswith("Repeated")
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            for _ in range(self.random.randrange(3)):
                if field.message_type.fields_by_name["value"].message_type is None:
                    value[self.word()] = self.word()
                else:
                    entry = value[self.word()]
                    entry.MergeFrom(self.message(type(entry), depth + 1))
        elif field.message_type is not None:
            for _ in range(self.random.randrange(3) if is_list else 1):
                target = value.add() if is_list else value
                target.SetInParent()
                target.MergeFrom(self.message(type(target), depth + 1))
        elif is_list:
            value.extend(self._scalar(field) for _ in range(self.random.randrange(4)))
        else:
            setattr(into, field.name, self._scalar(field))

    def word(self) -> str:
        return self.random.choice(self._words if self.random.random() < 0.7 else self._odd)

    def _scalar(self, field: Any) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return self.random.choice([self.noise(100), self.frame()])
            case FieldDescriptor.CPPTYPE_STRING:
                return self.word()
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.random.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self.random.choice([0.0, -1.5, 1e308, float("inf"), float("nan"), 3.0])
            case _:
                return self.random.choice([0, 1, 2, 3, 1_000, 2**31 - 1, 2**32 - 1, 2**63 - 1, -1, -(2**31)])

    def frame(self) -> bytes:
        """A frame of the fast path: JSON that has its keys, or what is no JSON at all."""
        if self.random.random() < 0.2:
            return self.random.choice([b"", b"[", b"null", b"[" * 5_000, b"{}" * 10, self.noise(50), b"\xff\xfe"])
        keys = ("hello", "credit", "begun", "answers", "declined", "components", "is_draining", "has", "version")
        of_hello = ("version", "worker_id", "queue", "components", "has", "report", "opening", "inputs", "is_complete")
        kept = {key: self.json() for key in keys if self.random.random() < 0.4}
        if self.random.random() < 0.5:
            kept["hello"] = {"version": 1, "worker_id": self.word(), "queue": self.word()}
            kept["hello"] |= {key: self.json() for key in of_hello if self.random.random() < 0.2}
        if self.random.random() < 0.5:
            kept["credit"] = self.random.choice([1, -1, 0, 10**9, -(10**9), 10**30])
        return json.dumps(kept).encode()

    def json(self, depth: int = 0) -> Any:
        match self.random.randrange(8 if depth < 3 else 5):
            case 0:
                return self.random.choice([0, -1, 1, 10**18, 10**40])
            case 1:
                return self.word()
            case 2:
                return self.random.choice([None, True, False])
            case 3:
                return self.random.choice([1.5, float("nan"), 1e400])
            case 4:
                return self.word() + "\udc80" if self.random.random() < 0.1 else self.word()
            case 5 | 6:
                return [self.json(depth + 1) for _ in range(self.random.randrange(4))]
            case _:
                return {self.word(): self.json(depth + 1) for _ in range(self.random.randrange(4))}

    def body(self, method: Method) -> bytes:
        """A request of a method: its message, or only bytes."""
        match self.random.randrange(5):
            case 0:
                return self.noise(300)
            case 1:
                whole = bytes(self.message(method.request).SerializeToString())
                return whole[: self.random.randrange(len(whole) + 1)]
            case _:
                return bytes(self.message(method.request).SerializeToString())


async def send(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Say this and no more, and hear what there is to hear within the moment."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    heard = b""
    with contextlib.suppress(OSError, TimeoutError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(0.02):
            heard = await reader.read(65_536)
    writer.transport.abort()
    return heard


def all_methods() -> list[Method]:
    return [method for package, name in SERVICES for method in methods(name, package).values()]


async def call(
    channel: grpc.aio.Channel, method: Method, bodies: list[bytes], within_s: float
) -> tuple[grpc.StatusCode, str]:
    """Call any method with these bytes as its requests; what it ends with, cut off after a time."""

    async def requests() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    stub = channel.stream_stream(method.path)(requests(), timeout=within_s)
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in stub:
            pass
    code, text = await stub.code(), await stub.details()
    return (grpc.StatusCode.CANCELLED if text == _OF_CLIENT else code), text


assert all(POOL.FindServiceByName(f"{package}.{name}") for package, name in SERVICES)
