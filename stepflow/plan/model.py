"""The document made ready to run: indices instead of names, expressions as functions, needs worked out."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from stepflow.errors import StepflowError
from stepflow.flow.model import Flow, OnError, Setting
from stepflow.records import BlobId, ErrorCode, Failed, Json

PENDING = Failed(ErrorCode.ORCHESTRATOR_ERROR, "the step has not finished", may_retry=False)
"""Stands in a list of outputs where a step has not finished. Being a `Failed`, it can't be taken for a value."""


NOT_NEEDED = -1
"""Stands in counts of unmet needs for a step that nothing asked for."""


class EvaluationFailedError(StepflowError):
    """An expression came to a failure: its own, or that of a step it refers to."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


Outputs: TypeAlias = Sequence[Json | Failed]
"""What each step of an item came to, by step index."""

Evaluate: TypeAlias = Callable[[Outputs, Json, Mapping[str, Json]], Json]
"""(outputs, the item's input, variables) → value. Raises EvaluationFailedError."""

Needs: TypeAlias = Callable[[Outputs, Json, Mapping[str, Json]], tuple[int, ...]]
"""The unfinished steps without which the expression can't go on, in the order they are met; empty: it can be."""


class PlannedExpression(msgspec.Struct, frozen=True):
    evaluate: Evaluate
    needs: Needs
    references: tuple[int, ...]  # every step that is named anywhere in it
    is_static: bool  # its needs are its references, whatever the values


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    id: str
    component: str
    input: PlannedExpression
    must_execute: bool
    on_error: OnError
    timeout: Setting | None


class StaticNeeds(msgspec.Struct, frozen=True):
    """How every item of a plan without conditions begins. Place `len(steps)` stands for the flow's output."""

    unmet: tuple[int, ...]  # by step: how many needed steps must finish first, or NOT_NEEDED
    dependents: tuple[tuple[int, ...], ...]  # by step: who waits for it
    ready: tuple[int, ...]
    open: int  # how many steps an item runs


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    flow: Flow
    flow_id: BlobId
    steps: tuple[PlannedStep, ...]
    output: PlannedExpression
    must_execute: tuple[int, ...]
    static: StaticNeeds | None  # None: what an item needs depends on its values
