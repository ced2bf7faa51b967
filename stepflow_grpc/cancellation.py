"""Cancelling a call from an AnyIO scope."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import anyio.lowlevel

T = TypeVar("T")


async def answer_of(call: Awaitable[T]) -> T:
    """What a call of gRPC gives, or a read or a write of one.

    When such a call is cancelled, gRPC raises a `CancelledError` of its own, in which AnyIO does not find the scope
    that was cancelled: it would leave the scope as an error. Here the scope cancels once more, in its own words.
    """
    try:
        return await call
    except asyncio.CancelledError:
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise
