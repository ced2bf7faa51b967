"""Questions to a server, as its operator asks them."""

from contextlib import aclosing
from typing import Any

from stepflow_grpc.client.calls import Calls
from stepflow_grpc.client.errors import CallTimeoutError, NotServedError
from stepflow_grpc.messages import WORK_PACKAGE
from stepflow_grpc.questions import Question, answer_of, asking


async def ask(calls: Calls, question: Question, type: Any, *, timeout_s: float = 30.0, repeat: bool = True) -> Any:
    """The answer.

    Args:
        repeat: whether asking twice does no harm; then it is, while the server is away for a moment.

    Raises:
        NotServedError: the server knows no such questions.
        StepflowError: see `error_of`.
    """

    async def once() -> Any:
        with calls.clock.timeout(timeout_s):
            return answer_of(await _frames(calls, question), type)
        raise CallTimeoutError(calls.address, "Ask")

    return await calls.repeating(once, only_busy=not repeat)


async def _frames(calls: Calls, question: Question) -> list[Any]:
    try:
        async with aclosing(calls.stream("OperatorService", "Ask", asking(question), WORK_PACKAGE)) as messages:
            return [message async for message in messages]
    except NotServedError:
        raise NotServedError(
            f"the server at {calls.address} does not answer operators: it is older than this program, or another "
            "implementation; ask its store instead (--store)"
        ) from None
