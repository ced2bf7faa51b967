"""Calls to a server: each with a deadline, and repeated where that can do no harm."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc
import grpc.aio

from stepflow.errors import EngineClosedError, StepflowError
from stepflow.protocols import Chance, Clock
from stepflow_grpc.address import Address
from stepflow_grpc.cancellation import answer_of
from stepflow_grpc.channel import open_channel
from stepflow_grpc.client.errors import CallTimeoutError, ServerBusyError, ServerUnavailableError, error_of
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.messages import PACKAGE, Method, methods, new

T = TypeVar("T")

_FIRST_S, _LONGEST_S = 0.1, 2.0
_OF_CORE = "Internal error from Core"
_LOOKS, _LOOK_S = 100, 0.01


class Patience:
    """How long something is tried again: waits that double, each drawn from its upper half, until the time is over."""

    def __init__(self, clock: Clock, chance: Chance, seconds: float) -> None:
        self._clock = clock
        self._chance = chance
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """It went well: the next failure is a first one."""
        self._until: float | None = None
        self._delay_s = _FIRST_S

    async def wait(self, error: StepflowError) -> None:
        """Wait until the next try, or raise the error where there is none."""
        now = self._clock.now()
        self._until = now + self._seconds if self._until is None else self._until
        asked_s = error.retry_after_s if isinstance(error, ServerBusyError) else None
        delay_s = asked_s if asked_s is not None else self._delay_s * (0.5 + self._chance.random() / 2)
        if now + delay_s > self._until:
            raise error
        self._delay_s = min(self._delay_s * 2, _LONGEST_S)
        await self._clock.sleep(delay_s)


class Calls:
    """A channel and what is called over it. Open it on the loop that uses it.

    Args:
        timeout_s: of a call that gives no other.
        patience_s: how long calls that may be repeated are, once the server has answered a first one.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials | None,
        clock: Clock,
        chance: Chance,
        *,
        timeout_s: float,
        patience_s: float,
    ) -> None:
        self.address = address
        self.clock = clock
        self._credentials = credentials
        self._chance = chance
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[str, tuple[Any, Method]] = {}
        self._has_answered = False

    async def open(self) -> None:
        self._channel = open_channel(self.address, self._credentials)

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        self._stubs.clear()
        if channel is not None:
            await channel.close()

    async def unary(
        self,
        service: str,
        name: str,
        request: Any = None,
        *,
        repeat: bool = True,
        longer_s: float = 0,
        **fields: Any,
    ) -> Any:
        """Ask and get the answer.

        Args:
            repeat: whether asking twice does no harm; a server that has never answered is asked once.
            longer_s: so much longer than others the call may take, since it was asked to wait.

        Raises:
            StepflowError: see `error_of`.
        """
        stub, method = self._stub(service, name)
        message = new(method.request.DESCRIPTOR.name, **fields) if request is None else request

        async def ask() -> Any:
            try:
                answer = await answer_of(stub(message, timeout=self._timeout_s + longer_s))
            except grpc.aio.AioRpcError as error:
                raise self.failure(error, name) from error
            self._has_answered = True
            return answer

        return await (self.repeating(ask) if repeat else ask())

    async def repeating(self, ask: Callable[[], Awaitable[T]], *, only_busy: bool = False) -> T:
        """What `ask` gives, asked again while the server is away or busy.

        Args:
            only_busy: a server that went away may have done it, and asking twice would do harm.
        """
        patience = self.patience()
        while True:
            try:
                return await ask()
            except CallTimeoutError:
                raise
            except (ServerUnavailableError, ServerBusyError) as error:
                if not self._has_answered or (only_busy and not isinstance(error, ServerBusyError)):
                    raise
                await patience.wait(error)

    def patience(self) -> Patience:
        return Patience(self.clock, self._chance, self._patience_s)

    async def stream(self, service: str, name: str, request: Any, package: str = PACKAGE) -> AsyncGenerator[Any, None]:
        """Every message that comes. Raises: StepflowError, at the first break."""
        stub, _ = self._stub(service, name, package)
        call = stub(request)
        try:
            while (message := await answer_of(call.read())) is not grpc.aio.EOF:
                self._has_answered = True
                yield message
        except grpc.aio.AioRpcError as error:
            raise self.failure(error, name) from error
        finally:
            call.cancel()

    def begin(self, service: str, name: str, package: str) -> "Exchange":
        """A call that is written to and read from, piece by piece."""
        stub, _ = self._stub(service, name, package)
        return Exchange(self, name, stub())

    def failure(self, error: Any, name: str) -> StepflowError:
        found = error_of(error.code(), error.details(), name, self.address, error.trailing_metadata())
        self._has_answered = self._has_answered or not isinstance(found, ServerUnavailableError)
        return found

    def _stub(self, service: str, name: str, package: str = PACKAGE) -> tuple[Any, Method]:
        if self._channel is None:
            raise EngineClosedError("the client is not open: use it inside `async with Client(…) as client:`")
        found = self._stubs.get(f"{service}/{name}")
        if found is None:
            method = methods(service, package)[name]
            found = self._stubs[f"{service}/{name}"] = (_made(self._channel, method), method)
        return found


class Exchange:
    """A call under way in both directions. What ends it is raised where it is met."""

    def __init__(self, calls: Calls, name: str, call: Any) -> None:
        self._calls = calls
        self._name = name
        self._call = call
        self._ended: tuple[grpc.StatusCode, str | None, Any] | None = None
        call.add_done_callback(self._note_end)

    def _note_end(self, call: Any) -> None:
        """gRPC puts an internal error of its own in the place of the server's word, when a write fails after it."""
        if self._ended is None or self._ended[1] == _OF_CORE:
            self._ended = _known(call.code()), _known(call.details()), _known(call.trailing_metadata())

    async def write(self, message: Any) -> None:
        try:
            await answer_of(self._call.write(message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None

    async def last(self) -> Any:
        """Nothing more is written: the message that comes back."""
        try:
            await answer_of(self._call.done_writing())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None
        return await self.read()

    async def read(self) -> Any:
        """The next message."""
        try:
            answer = await answer_of(self._call.read())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None
        if answer is grpc.aio.EOF:
            raise await self._failure()
        return answer

    def cancel(self) -> None:
        self._call.cancel()

    async def _failure(self) -> StepflowError:
        for _ in range(_LOOKS):
            if self._ended is not None and self._ended[1] != _OF_CORE:
                break
            await self._calls.clock.sleep(_LOOK_S)
        code, details, metadata = self._ended or (grpc.StatusCode.UNKNOWN, "", None)
        return error_of(code, details, self._name, self._calls.address, metadata)


def _known(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    raise AssertionError("a call that has ended has its status")


def _made(channel: Any, method: Method) -> Any:
    shapes = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    make = shapes[method.takes_stream, method.streams]
    return make(method.path, method.request.SerializeToString, method.response.FromString)
