"""What follows from a failure: another attempt, the default, or the failure itself. Pure."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from stepflow.flow.model import Backoff
from stepflow.plan.model import PlannedStep
from stepflow.plan.variables import resolve_setting
from stepflow.records import COMPONENT_CODES, TRANSPORT_CODES, Failed, Json


class BackoffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long the retries of a step wait. All in milliseconds but the factor."""

    type: str = "fibonacci"  # or constant, exponential
    delay_ms: float = 1_000
    min_delay_ms: float = 1_000
    max_delay_ms: float = 10_000
    factor: float = 2.0

    def ceiling_s(self, retry: int) -> float:
        """The longest wait before a retry, counted from 1, in seconds."""
        if self.type == "constant":
            return self.delay_ms / 1_000
        if self.type == "exponential":
            exponent = min(retry - 1, 1_000 / max(1.0, self.factor))
            return min(self.min_delay_ms * float(self.factor**exponent), self.max_delay_ms) / 1_000
        return min(self.min_delay_ms * _fibonacci(retry, self.max_delay_ms), self.max_delay_ms) / 1_000


def _fibonacci(number: int, enough: float) -> int:
    before, current = 0, 1
    for _ in range(number - 1):
        if current > enough:
            break
        before, current = current, before + current
    return current


class RetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's retries, as the `retry` section of a config says."""

    transport_max_retries: int = 3
    backoff: BackoffPolicy = BackoffPolicy()
    recovery_max: int = 3  # starts of a step that may end with their engine's death


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a step does about failures, its variables resolved."""

    timeout_s: float | None = None
    transport_max_retries: int = 3
    component_max_retries: int = 0
    backoff: BackoffPolicy = BackoffPolicy()
    has_default: bool = False
    default: Json = None


def policy_of(step: PlannedStep, variables: Mapping[str, Json], settings: RetrySettings) -> Policy:
    """The policy of a step. Its settings were checked when the variables were resolved."""
    on_error = step.on_error
    retries = 3 if on_error.action == "retry" else 0
    if on_error.action != "fail" and on_error.max_retries is not None:
        retries = int(resolve_setting(on_error.max_retries, variables, key="maxRetries"))
    timeout = step.timeout
    return Policy(
        timeout_s=None if timeout is None else float(resolve_setting(timeout, variables, key="timeout")),
        transport_max_retries=settings.transport_max_retries,
        component_max_retries=retries,
        backoff=settings.backoff if on_error.backoff is None else _backoff_of(on_error.backoff, variables),
        has_default=on_error.action == "useDefault",
        default=on_error.default,
    )


def _backoff_of(backoff: Backoff, variables: Mapping[str, Json]) -> BackoffPolicy:
    keys = {"delay_ms": "delayMs", "min_delay_ms": "minDelayMs", "max_delay_ms": "maxDelayMs", "factor": "factor"}
    written = {
        name: float(resolve_setting(setting, variables, key=key))
        for name, key in keys.items()
        if (setting := getattr(backoff, name)) is not None
    }
    return BackoffPolicy(type=backoff.type, **written)


class TryAgain(msgspec.Struct, frozen=True):
    delay_s: float


class TakeDefault(msgspec.Struct, frozen=True):
    output: Json


class GiveUp(msgspec.Struct, frozen=True):
    pass


Judgement: TypeAlias = TryAgain | TakeDefault | GiveUp


def judge(failed: Failed, policy: Policy, *, transport: int, component: int, draw: Callable[[], float]) -> Judgement:
    """Decide on a failure of a dispatched or unroutable step.

    Transport failures are retried first, then a default applies. A delay is drawn between half of its ceiling and the
    whole of it ("equal jitter": M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015); one that
    the component asked for is kept exactly.

    Args:
        transport, component: how often the step was retried so far, by class of failure.
        draw: gives a number in [0, 1).
    """
    used, budget = (
        (transport, policy.transport_max_retries)
        if failed.code in TRANSPORT_CODES
        else (component, policy.component_max_retries if failed.code in COMPONENT_CODES else 0)
    )
    if failed.may_retry and used < budget:
        if failed.retry_after_s is not None:
            return TryAgain(failed.retry_after_s)
        ceiling = policy.backoff.ceiling_s(used + 1)
        return TryAgain(ceiling / 2 + draw() * ceiling / 2)
    return TakeDefault(policy.default) if policy.has_default else GiveUp()
