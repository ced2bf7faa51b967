"""Who may call: those that show a token, where the server has any."""

import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from stepflow_grpc.details import error_info
from stepflow_grpc.http2.headers import Head
from stepflow_grpc.http2.methods import Rpc
from stepflow_grpc.refusals import CallError, Code, ended

OPEN = ("grpc.health.v1.Health", "stepflow.v1.HealthService")
"""The services that answer everybody, so that probes need no token."""


class Tokens(Protocol):
    """The tokens of which callers have to show one. As many as there are, so that one can replace another."""

    def tokens(self) -> Sequence[str]: ...

    def environment(self) -> dict[str, str]:
        """The variables that let a child process in."""
        ...


class FixedTokens:
    """They stay as they are, as long as the server runs."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tuple(tokens)

    def tokens(self) -> Sequence[str]:
        return self._tokens

    def environment(self) -> dict[str, str]:
        return {"STEPFLOW_TOKEN": self._tokens[0]}


def refusal(authorization: str | bytes | None, tokens: Tokens) -> CallError | None:
    """Why a caller that shows this is not let in; None: it is. Takes as long for a token that is nearly right."""
    if authorization is None:
        text = "this server wants a token: set STEPFLOW_TOKEN, or STEPFLOW_TOKEN_FILE"
        return CallError(Code.UNAUTHENTICATED, text, detail=error_info("TOKEN_MISSING"))
    shown = authorization.encode("utf-8", "replace") if isinstance(authorization, str) else authorization
    scheme, _, token = shown.partition(b" ")
    matches = [hmac.compare_digest(token, known.encode()) for known in tokens.tokens()]
    if scheme.lower() == b"bearer" and any(matches):
        return None
    text = "the token is none of this server's: set STEPFLOW_TOKEN to one of them"
    return CallError(Code.UNAUTHENTICATED, text, detail=error_info("TOKEN_INVALID"))


class Service(NamedTuple):
    """A service by its full name, with what answers its methods."""

    name: str
    methods: Mapping[str, Rpc]


class Guard:
    """The services of a server by name, behind its tokens.

    Args:
        tokens: None lets everybody in.
        open: names of services that ask for no token.
    """

    def __init__(self, services: Iterable[Service], tokens: Tokens | None, *, open: Collection[str] = OPEN) -> None:
        self._services = {found.name: found.methods for found in services}
        self._tokens = tokens
        self._open = frozenset(open)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._services)

    def find(self, head: Head) -> Rpc | None:
        """The method that is called. Raises: Ended, where its caller may not."""
        service, _, method = head.path[1:].partition("/")
        methods = self._services.get(service)
        if methods is None or not head.path.startswith("/"):
            return None
        if self._tokens is not None and service not in self._open:
            shown = dict(head.metadata).get("authorization")
            refused = refusal(shown, self._tokens)
            if refused is not None:
                raise ended(refused)
        return methods.get(method)
