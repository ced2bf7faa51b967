"""Every exception of the package.

StepflowError
├── FlowInvalidError        a document that cannot be run: every problem, each with its place
├── ConfigError             a configuration that cannot be used: every problem, each with its place
├── InputInvalidError       inputs, variables or overrides that the flow does not accept
├── RunFailedError          run() only: the item failed
├── RunNotFoundError        no run has this id
├── AmbiguousRunError       several runs have ids that begin so
├── RunActiveError          what was asked for needs a run that has ended
├── BlobNotFoundError       no blob has this id
├── StoreError
│   ├── StoreUnavailableError   the store did not answer: it may or may not have written
│   ├── StoreInUseError         another engine has the file
│   └── LeaseLostError          another engine has taken the run over
├── SecretKeyError          secrets can't be sealed or opened: the key is missing, malformed or another
├── PluginUnavailableError  a plugin of the configuration can't be made or opened here
├── EngineClosedError       the engine was used before it was opened or after it was closed
└── ComponentError          raised by components: carries the error code it stands for
    ├── InvalidInputError       INVALID_INPUT
    ├── ResourceUnavailableError RESOURCE_UNAVAILABLE
    └── RetryAfter              RESOURCE_UNAVAILABLE, and when to try again
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from stepflow.records import ErrorCode, Json, RunId

if TYPE_CHECKING:
    from typing import Self


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a document, where it stands, and what to do.

    `line` and `column` count from 1; they are 0 when the document has no text (a dict, a message).
    """

    message: str
    path: str = "$"  # in the document, such as $.steps[0].input
    code: int | None = None  # of the diagnostics catalogue; None for what no diagnostic covers
    level: str = "error"  # fatal, error or warning
    source: str | None = None  # the file's name
    line: int = 0
    column: int = 0
    text: str | None = None  # the line as it stands in the file
    remedy: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part)
        code = f" {self.code}" if self.code is not None else ""
        level = "error" if self.level == "fatal" else self.level
        where = "" if self.line or self.path == "$" else f" ({self.path})"
        shown = f"{level}{code}: {self.message}{where}"
        shown = f"{place}: {shown}" if place else shown
        return f"{shown}; {self.remedy}" if self.remedy else shown


class StepflowError(Exception):
    """The root of every exception that the package raises on purpose."""


class ProblemsError(StepflowError):
    """Something was read and found wanting; `problems` says each thing that is."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> "tuple[type[Self], tuple[tuple[Problem, ...]]]":
        return type(self), (self.problems,)


class FlowInvalidError(ProblemsError):
    """The flow cannot be run."""


class ConfigError(ProblemsError):
    """The configuration cannot be used."""


class InputInvalidError(ProblemsError):
    """Inputs, variables or overrides do not fit the flow. Nothing was started or stored."""


class RunFailedError(StepflowError):
    """The one item of a run failed."""

    def __init__(self, code: ErrorCode, message: str, *, step: str | None, run_id: RunId, data: Json = None) -> None:
        at = f" at step {step!r}" if step is not None else ""
        super().__init__(f"{code.value}{at}: {message} (run {run_id})")
        self.code = code
        self.message = message
        self.step = step
        self.run_id = run_id
        self.data = data

    def __reduce__(self) -> "tuple[partial[Self], tuple[ErrorCode, str]]":
        return partial(type(self), step=self.step, run_id=self.run_id, data=self.data), (self.code, self.message)


class RunNotFoundError(StepflowError):
    """No run has this id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run has the id {run_id}")
        self.run_id = run_id

    def __reduce__(self) -> "tuple[type[Self], tuple[str]]":
        return type(self), (self.run_id,)


class AmbiguousRunError(StepflowError):
    """Several runs have ids that begin so."""

    def __init__(self, prefix: str, found: Sequence[RunId]) -> None:
        super().__init__(f"several runs have ids that begin with {prefix}: {', '.join(found)}, …; write more of the id")
        self.prefix = prefix
        self.found = tuple(found)

    def __reduce__(self) -> "tuple[type[Self], tuple[str, tuple[RunId, ...]]]":
        return type(self), (self.prefix, self.found)


class RunActiveError(StepflowError):
    """The run has not ended, and what was asked for needs one that has."""

    def __init__(self, run_id: RunId, what: str) -> None:
        super().__init__(f"run {run_id} has not ended: {what}; wait for it, or cancel it first")
        self.run_id = run_id
        self.what = what

    def __reduce__(self) -> "tuple[type[Self], tuple[RunId, str]]":
        return type(self), (self.run_id, self.what)


class BlobNotFoundError(StepflowError):
    """No blob has this id."""

    def __init__(self, blob_id: str) -> None:
        super().__init__(f"no blob has the id {blob_id}")
        self.blob_id = blob_id

    def __reduce__(self) -> "tuple[type[Self], tuple[str]]":
        return type(self), (self.blob_id,)


class EngineClosedError(StepflowError):
    """The engine is not open: use it inside `async with` (or `with`, for SyncEngine)."""


class PluginUnavailableError(StepflowError):
    """A plugin can't be made or opened on this machine; the text says what is missing.

    Only the steps that are routed to it fail: UNREACHABLE, without a retry.
    """


class StoreError(StepflowError):
    """The store could not do what it was asked."""


class StoreUnavailableError(StoreError):
    """The store did not answer. It may or may not have written: repeat the same write, or read first."""


class StoreInUseError(StoreError):
    """Another engine has the file open, and such a store serves one engine at a time."""

    def __init__(self, message: str, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid  # of the process that has it; None: it is not known

    def __reduce__(self) -> "tuple[partial[Self], tuple[str]]":
        return partial(type(self), pid=self.pid), (str(self),)


class SecretKeyError(StepflowError):
    """Secrets can't be sealed or opened: STEPFLOW_SECRET_KEY is missing, malformed, or not the one that sealed them."""


class LeaseLostError(StoreError):
    """Another engine has taken this run over.

    Stop working on the run at once, and write nothing more: what follows is the new owner's.
    """

    def __init__(self, run_id: RunId, *, held: int, current: int) -> None:
        super().__init__(f"run {run_id}: lease {held} was replaced by lease {current}")
        self.run_id = run_id
        self.held = held
        self.current = current

    def __reduce__(self) -> "tuple[partial[Self], tuple[RunId]]":
        return partial(type(self), held=self.held, current=self.current), (self.run_id,)


class ComponentError(StepflowError):
    """Raise it from a component to choose the error code of the step's failure."""

    code: ErrorCode = ErrorCode.COMPONENT_FAILED

    def __init__(self, message: str, *, data: Json = None, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.data = data
        if code is not None:
            self.code = code


class InvalidInputError(ComponentError):
    """The input cannot be used; no retry would help."""

    code = ErrorCode.INVALID_INPUT


class ResourceUnavailableError(ComponentError):
    """Something that the component needs is not there now; a retry may help."""

    code = ErrorCode.RESOURCE_UNAVAILABLE


class RetryAfter(ComponentError):
    """The provider said when to come back: the next attempt waits exactly this long.

    It sets the delay, not the right to retry: the step's retry policy still decides whether there is a next attempt.
    """

    code = ErrorCode.RESOURCE_UNAVAILABLE

    def __init__(self, delay_s: float, message: str | None = None, *, data: Json = None) -> None:
        if not 0 <= delay_s < float("inf"):
            raise ValueError(f"a delay is a finite number of seconds from 0 on, not {delay_s!r}")
        super().__init__(message or f"try again in {delay_s:g} s", data=data)
        self.delay_s = float(delay_s)

    def __reduce__(self) -> "tuple[type[Self], tuple[float, str], dict[str, object]]":
        return type(self), (self.delay_s, str(self)), vars(self)
