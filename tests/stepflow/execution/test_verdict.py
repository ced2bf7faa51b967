import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.execution.verdict import (
    BackoffPolicy,
    GiveUp,
    Policy,
    RetrySettings,
    TakeDefault,
    TryAgain,
    judge,
    policy_of,
)
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.records import ErrorCode, Failed


def half() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("policy", "ceilings"),
    [
        (BackoffPolicy(), [1, 1, 2, 3, 5, 8, 10, 10]),
        (BackoffPolicy(type="constant", delay_ms=250), [0.25, 0.25, 0.25]),
        (BackoffPolicy(type="exponential", factor=3), [1, 3, 9, 10, 10]),
    ],
)
def test_a_back_off_grows_as_its_type_says(policy: BackoffPolicy, ceilings: list[float]) -> None:
    assert [policy.ceiling_s(retry) for retry in range(1, len(ceilings) + 1)] == ceilings


@given(
    policy=st.builds(
        BackoffPolicy,
        type=st.sampled_from(["constant", "exponential", "fibonacci"]),
        min_delay_ms=st.floats(0, 1e6),
        max_delay_ms=st.floats(0, 1e6),
        delay_ms=st.floats(0, 1e6),
        factor=st.floats(0, 1e6),
    ),
    retry=st.integers(1, 10**9),
)
def test_no_back_off_is_without_bound(policy: BackoffPolicy, retry: int) -> None:
    assert 0 <= policy.ceiling_s(retry) <= 1_000


def test_transport_failures_are_retried_before_a_default_applies() -> None:
    policy = Policy(has_default=True, default=7, transport_max_retries=1)
    failed = Failed(ErrorCode.UNREACHABLE, "")

    assert judge(failed, policy, transport=0, component=0, draw=half) == TryAgain(0.75)
    assert judge(failed, policy, transport=1, component=0, draw=half) == TakeDefault(7)


def test_budgets_do_not_share() -> None:
    policy = Policy(transport_max_retries=1, component_max_retries=1)
    broken = Failed(ErrorCode.COMPONENT_FAILED, "")

    assert isinstance(judge(broken, policy, transport=1, component=0, draw=half), TryAgain)
    assert judge(broken, policy, transport=0, component=1, draw=half) == GiveUp()


@pytest.mark.parametrize("code", [ErrorCode.INVALID_INPUT, ErrorCode.WORKER_ERROR, ErrorCode.COMPONENT_NOT_FOUND])
def test_other_failures_are_never_retried(code: ErrorCode) -> None:
    policy = Policy(component_max_retries=9)

    assert judge(Failed(code, ""), policy, transport=0, component=0, draw=half) == GiveUp()


def test_retry_after_sets_the_delay_and_not_the_right() -> None:
    limited = Failed(ErrorCode.RESOURCE_UNAVAILABLE, "", retry_after_s=36_000)

    assert judge(limited, Policy(component_max_retries=1), transport=0, component=0, draw=half) == TryAgain(36_000)
    assert judge(limited, Policy(), transport=0, component=0, draw=half) == GiveUp()


def test_a_policy_takes_its_numbers_from_variables() -> None:
    step = {
        "id": "a",
        "component": "/x",
        "timeout": {"$variable": "patience"},
        "onError": {
            "action": "retry",
            "maxRetries": {"$variable": "tries"},
            "backoff": {"type": "constant", "delayMs": {"$variable": "$.waits.long"}},
        },
    }
    plan = build_plan(flow_from_json({"steps": [step]}))

    policy = policy_of(plan.steps[0], {"patience": 2, "tries": 5, "waits": {"long": 9}}, RetrySettings())

    assert (policy.timeout_s, policy.component_max_retries, policy.backoff.ceiling_s(1)) == (2.0, 5, 0.009)
