"""A chat completion request, apart from the code that sends it."""

import msgspec


class Call(msgspec.Struct, frozen=True):
    """One request, ready to be sent."""

    url: str
    body: bytes
    key: str | None
    timeout_s: float
