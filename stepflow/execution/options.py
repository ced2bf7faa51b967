"""What may be said of one submission, and whether it can be meant."""

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TypeAlias, TypedDict

import msgspec

from stepflow.flow.model import Flow
from stepflow.records import Json

FlowLike: TypeAlias = str | os.PathLike[str] | Mapping[str, Json] | Flow
"""A path, a document, or a flow that was read. A `str` is always a path: text goes through `stepflow.flow_text`."""


class RecoverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is known to be alive, and how it takes over what others left unfinished."""

    enabled: bool = True  # False: it takes nothing over by itself
    check_interval_s: float = 1.0  # between two looks for runs without an owner, where engines share a store
    lease_ttl_s: float = 6.0  # an engine that was not heard of for so long is dead
    max_startup_recovery: int = 100  # runs that are taken over at once when the engine opens; the others follow
    max_claims_per_check: int = 10  # runs that are taken over at once; it looks again until there are no more
    checkpoint_interval: int = 10_000  # events between two checkpoints of a run; 0: none is made


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long runs that have ended are kept. None: for ever."""

    age_s: float | None = None  # runs that ended so long ago are deleted
    keep: int | None = None  # so many of the newest that have ended are kept, the others deleted
    longest_deadline_s: float = 86_400.0  # blobs are kept so much longer than `age_s`, for runs that still use them
    every_s: float = 60.0  # between two looks


VALIDATIONS = ("strict", "warn", "off")
_FOREVER_S = 1e10
"""Three centuries: whoever means no deadline gives none."""


class SubmitOptions(TypedDict, total=False):
    """What may be said of one submission."""

    key: str | None
    """The caller's name for the run. Submitting again under it goes on with the run, or gives its results again."""
    variables: Mapping[str, Json] | None
    overrides: Json
    """Patches of steps: `{"steps": {id: {"value": {…}}}}`."""
    max_concurrency: int | None
    """Most tasks in flight at once; None takes the engine's."""
    deadline_s: float | None
    """Seconds after which the run is ended, with the items that did not finish failed by TIMEOUT."""
    validation: str | None
    """strict, warn or off, for inputs and variables; None takes the engine's."""
    keep_results: bool
    """False: results are read once, in item order, as the run goes on. Items begin only so far ahead of the reader,
    and a store in memory forgets what was read, so that a batch of any length fits."""
    new: bool
    """True: start over, whatever run has the key."""


class SubRunOptions(TypedDict, total=False):
    """What may be said of a sub-run."""

    variables: Mapping[str, Json] | None
    """Beside those of its parent, which it gets too."""
    overrides: Json
    max_concurrency: int | None
    """Of its own, within its tree's; None: only the tree's."""


def check_options(options: SubmitOptions) -> None:
    """Raises: TypeError, ValueError; the text names the option."""
    for name in options:
        if name not in SubmitOptions.__annotations__:
            known = ", ".join(SubmitOptions.__annotations__)
            raise TypeError(f"there is no option {name!r}; there are {known}")
    _check_key(options.get("key"))
    check_concurrency(options.get("max_concurrency"))
    _check_deadline(options.get("deadline_s"))
    validation = options.get("validation")
    if validation is not None:
        check_validation("validation", validation)


def check_validation(name: str, mode: object) -> None:
    if mode not in VALIDATIONS:
        raise ValueError(f"{name} is one of {', '.join(VALIDATIONS)}, not {mode!r}")


def check_concurrency(value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"max_concurrency is a whole number from 1 on, not {value!r}")


def check_inputs(inputs: Iterable[Json] | AsyncIterable[Json]) -> None:
    """Refuse what can be iterated, but is one input rather than many."""
    if isinstance(inputs, str | bytes | bytearray | Mapping) or not isinstance(inputs, Iterable | AsyncIterable):
        kind = type(inputs).__name__
        raise TypeError(f"inputs are a list or another iterable with one value for each item, not {kind}")


def _check_key(key: object) -> None:
    if key is None:
        return
    if not isinstance(key, str):
        raise TypeError(f"key is a text, not {type(key).__name__}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"key holds a lone surrogate, which is not text: {key!a}") from None


def _check_deadline(seconds: object) -> None:
    if seconds is None:
        return
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < _FOREVER_S:  # type: ignore[operator]
        raise ValueError(f"deadline_s is a number of seconds above 0, not {seconds!r}")
