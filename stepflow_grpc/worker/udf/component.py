"""The component `udf`: its input names a blob that holds the text of a function, and what to call that with."""

import base64
import binascii
import os
from types import TracebackType
from typing import Any, Self

import msgspec

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.context import Context
from stepflow.errors import ComponentError, StepflowError
from stepflow.protocols import Clock
from stepflow.records import BlobId, Json
from stepflow_grpc.worker.udf.processes import UdfProcesses
from stepflow_grpc.worker.udf.records import Ask, Code, Facts, Reply, UdfLimits

PATH = "/udf"

_MOST_KEPT = 100
"""Blobs whose code is kept, rather than asked for again."""


class UdfInput(msgspec.Struct):
    """Which function to call, and with what."""

    blob_id: str  # of an object with `code` and `input_schema`
    input: Any = {}


class Udf:
    """The component of one worker. Use it with `async with`; leaving it ends its processes."""

    def __init__(self, limits: UdfLimits | None = None, clock: Clock | None = None) -> None:
        self._processes = UdfProcesses(limits or UdfLimits(), clock or SystemClock())
        self._codes: dict[BlobId, Code] = {}

    async def __aenter__(self) -> Self:
        await self._processes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._processes.__aexit__(kind, error, traceback)

    def added_to(self, registry: Components) -> Components:
        """A registry with the components of another, and this one at `/udf`.

        Raises:
            ConfigError: the path or the id is taken.
        """
        both = Components(registry.lifespan)
        for each in registry.all():
            both.component(
                each.path,
                id=each.id,
                description=each.description,
                max_concurrency=each.max_concurrency,
                batch=each.batch,
                process=each.process,
            )(each.function)

        async def udf(input: UdfInput, ctx: Context) -> Any:
            """Call a function that is kept as text in a blob, in a process with limits."""
            return await self._call(input, ctx)

        both.component(PATH, max_concurrency=self._processes.limits.processes or os.cpu_count() or 1)(udf)
        return both

    async def _call(self, given: UdfInput, ctx: Context) -> Json:
        code = self._codes.get(given.blob_id) or await self._code(given.blob_id, ctx)
        facts = Facts(ctx.run_id, ctx.flow_id, ctx.step_id, ctx.attempt)

        async def questions(ask: Ask) -> Reply:
            try:
                return Reply(await _answered(ask, ctx))
            except (StepflowError, KeyError, TypeError, ValueError) as error:
                return Reply(error=f"{ask.name}: {error}")

        return await self._processes.call(given.blob_id, code, given.input, facts, questions)

    async def _code(self, blob_id: BlobId, ctx: Context) -> Code:
        try:
            content = await ctx.get_blob(blob_id)
        except Exception as error:
            raise ComponentError(f"Failed to retrieve blob {blob_id}: {error}") from error
        if not isinstance(content, dict):
            raise ComponentError(f"Blob {blob_id} must be an object that contains 'code' and 'input_schema' fields")
        for field in ("code", "input_schema"):
            if content.get(field) in (None, ""):
                raise ComponentError(f"Blob {blob_id} must contain '{field}' field")
        if not isinstance(content["code"], str):
            raise ComponentError(f"Blob {blob_id} must contain a text in its 'code' field")
        while len(self._codes) >= _MOST_KEPT:
            del self._codes[next(iter(self._codes))]
        code = self._codes[blob_id] = Code(content["code"], content["input_schema"])
        return code


async def _answered(ask: Ask, ctx: Context) -> Json:
    """What a function asks of its context. Raises: KeyError, where it asks something else."""
    given = ask.arguments
    match ask.name:
        case "put_blob":
            return await ctx.put_blob(given["data"])
        case "put_bytes":
            return await ctx.put_blob(_bytes(given["content"]))
        case "get_blob":
            found = await ctx.get_blob(str(given["blob_id"]))
            return {"bytes": base64.b64encode(found).decode()} if isinstance(found, bytes) else {"value": found}
        case "evaluate":
            flow = given["flow"]
            if not isinstance(flow, str | dict):
                raise TypeError(f"a flow is a document or the id of a blob, not {flow!r}")
            output: Json = await ctx.evaluate(flow, given["input"])
            return output
        case _:
            raise KeyError(ask.name)


def _bytes(text: Json) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as error:
        raise ValueError(f"this is no base64: {error}") from None
