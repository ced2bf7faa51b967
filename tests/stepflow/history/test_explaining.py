"""Why a run stands still, told from its store."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stepflow.errors import RunNotFoundError
from stepflow.execution.events import (
    Checkpointed,
    ItemEnded,
    ItemsAdmitted,
    OpenItemSnapshot,
    RunClaimed,
    RunEnded,
    RunPaused,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from stepflow.history.explaining import explain
from stepflow.history.explanation import BlockerKind, Explanation
from stepflow.protocols import Backend
from stepflow.records import (
    EngineRecord,
    ErrorCode,
    Failed,
    ParentLink,
    RunChange,
    RunRecord,
    RunStatus,
    Succeeded,
)
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock, turned_backend

pytestmark = pytest.mark.anyio

RUN = "019aae00-0000-7000-8000-000000000001"
CHILD = "019aae00-0000-7000-8000-000000000002"
BEGAN = 1_700_000_000.0
TIMEOUT = Failed(ErrorCode.TIMEOUT, "no answer within 1 s")

Hand = Callable[..., Any]

in_every_store = pytest.mark.parametrize("backend", ["memory", "sqlite"], indirect=True)


def only(explanation: Explanation) -> Any:
    (blocker,) = explanation.blockers
    return blocker


async def asked(backend: Backend, at: float, **options: Any) -> Explanation:
    return await explain(backend, RUN, now=BEGAN + at, **options)


async def test_a_paused_run_is_told_to_be_resumed(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), RunPaused(2_000))
        await it.write(StepWaiting(0, 0, "a worker", 2_500), change=RunChange(status=RunStatus.PAUSED))

        explanation = await asked(backend, 10)
        named = only(await asked(backend, 10, typed=lambda command: f"{command} --store x.db"))

    blocker = only(explanation)
    assert (blocker.kind, blocker.since) == (BlockerKind.PAUSED, BEGAN + 2)
    assert blocker.message == "it is paused, so no step begins; 1 step under way may still end"
    assert blocker.remedy == f"stepflow runs resume {RUN}"
    assert named.remedy == f"stepflow runs resume {RUN} --store x.db"
    assert explanation.status is RunStatus.PAUSED


@in_every_store
async def test_a_run_whose_engine_left_names_what_has_to_be_started(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0))
        await backend.owners.leave("engine-1")

        blocker = only(await asked(backend, 10))

    assert blocker.kind is BlockerKind.UNOWNED
    assert blocker.message == "the engine that drove it is gone; what was under way runs again (1 step)"
    assert 'no engine of group "default" is alive' in blocker.remedy
    assert f"stepflow recover {RUN}" in blocker.remedy


async def test_an_engine_of_the_same_group_is_named_as_who_takes_the_run_over(make_hand: Hand) -> None:
    backend = MemoryBackend(shared=True)
    async with make_hand(backend) as it:
        await it.begin()
        await backend.owners.enter(EngineRecord(owner="other", name="gpu", group="other", place="h"), ttl_s=60)
        await backend.owners.leave("engine-1")
        without = only(await asked(backend, 1))
        await it.enter("engine-2", name="two", ttl_s=60)

        within = only(await asked(backend, 1))

    assert "no engine of group" in without.remedy
    assert within.remedy == "engine two (host two) takes it over within seconds"


class TestLease:
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
        return turned_backend(request.param)

    async def test_an_engine_that_falls_silent_is_told_with_the_end_of_its_lease(self, make_hand: Hand) -> None:
        clock = TurnedClock()
        backend = MemoryBackend(shared=True, clock=clock)
        async with make_hand(backend) as it:
            await it.begin()
            fresh = await asked(backend, 0)
            await clock.sleep(4)

            silent = only(await asked(backend, 4))
            await clock.sleep(3)
            dead = only(await asked(backend, 7))

        assert fresh.blockers == ()
        assert silent.kind is BlockerKind.UNOWNED
        assert silent.message == "engine one (host one) was not heard of lately: its lease expires in 2.0 s"
        assert silent.until == pytest.approx(BEGAN + 6)
        assert dead.kind is BlockerKind.UNOWNED
        assert "no engine of group" in dead.remedy


async def test_a_store_that_does_not_answer_the_run_s_engine_comes_before_all_that_it_holds(
    hand: Hand, backend: Backend
) -> None:
    async def ownership(run_id: str) -> Any:
        found = await backend.owners.ownership(run_id)
        return msgspec.structs.replace(found, unanswered_since=BEGAN + 3)

    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), inputs=2, max_concurrency=1)

        slots = only(await asked(backend, 60))
        store = only(await asked(backend, 60, ownership=ownership))

    assert slots.kind is BlockerKind.SLOTS
    assert (store.kind, store.since) == (BlockerKind.STORE, BEGAN + 3)
    assert store.message == "the store has not answered engine one (host one), which wants to record what happened"
    assert "nothing locks its tables" in store.remedy


async def test_steps_that_wait_are_told_by_reason_with_what_would_help(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        events: list[Any] = [StepStarted(item, 0, 1, item) for item in range(3)]
        events += [StepWaiting(item, 0, "a worker of queue gpu", 1_000 + item) for item in range(3)]
        await it.begin(*events, StepStarted(3, 1, 1, 5), StepWaiting(3, 1, "environment variable KEY", 2_000), inputs=4)

        queue, variable = (await asked(backend, 10)).blockers

    assert queue.kind is BlockerKind.WAITING
    assert queue.message == 'step "load" of item 0 and 2 more waits: a worker of queue gpu'
    assert (queue.item, queue.step, queue.count, queue.since) == (0, "load", 3, BEGAN + 1)
    assert queue.remedy == "start a worker that serves it"
    assert variable.message == 'step "rank" of item 3 waits: environment variable KEY'
    assert variable.remedy == "set it where the run's engine starts and start that again, or in its program"


@pytest.mark.parametrize(
    ("url", "asked_at", "flag"),
    [
        (None, None, ""),
        ("127.0.0.1:7840", None, ""),
        ("10.0.0.7:7841", None, " --tasks-url 10.0.0.7:7841"),
        ("10.0.0.7:7841", "https://flows.example", " --tasks-url https://flows.example"),
    ],
)
async def test_a_queue_without_a_worker_is_told_with_the_line_that_starts_one_at_the_run_s_server(
    hand: Hand, backend: Backend, url: str | None, asked_at: str | None, flag: str
) -> None:
    async with hand() as it:
        await it.enter(url=url)
        await it.begin(StepStarted(0, 0, 1, 0), StepWaiting(0, 0, "no worker serves queue 'gpu'", 1_000))

        blocker = only(await asked(backend, 10, server=asked_at))

    assert blocker.remedy == f"start a worker that serves it: stepflow worker MODULE:APP --queue gpu{flag}"


async def test_a_run_whose_secrets_cannot_be_had_names_the_variable(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), RunClaimed("engine-1", "one", 1_000))
        reason = "the environment variable API_KEY is not set"
        await it.write(StepWaiting(-1, -1, reason, 2_000))

        blocker = only(await asked(backend, 60))
        await it.write(RunClaimed("engine-1", "one", 3_000), StepStarted(0, 0, 2, 3_000))
        after = only(await asked(backend, 60))

    assert (blocker.kind, blocker.since, blocker.item) == (BlockerKind.WAITING, BEGAN + 2, None)
    assert blocker.message == "none of its steps can begin: the environment variable API_KEY is not set"
    assert blocker.remedy == "set it where the run's engine starts and start that again, or in its program"
    assert after.kind is BlockerKind.RUNNING


async def test_the_next_retry_is_told_with_its_time_and_cause(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        retries = [StepRetried(item, 0, 3, TIMEOUT, 60.0 - item, 5_000) for item in range(5)]
        await it.begin(*retries, inputs=5)

        blocker = only(await asked(backend, 21))

    assert blocker.kind is BlockerKind.RETRYING
    assert blocker.message == (
        'retry 3 of step "load" of item 4 and 4 more begins in 40 s after TIMEOUT: no answer within 1 s'
    )
    assert (blocker.until, blocker.item, blocker.count) == (BEGAN + 61, 4, 5)


async def test_busy_slots_are_told_with_who_has_them(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(
            StepStarted(0, 1, 1, 0),
            StepStarted(1, 0, 1, 8_000),
            StepStarted(2, 1, 1, 9_000),
            inputs=9,
            max_concurrency=3,
        )

        blocker = only(await asked(backend, 10))

    assert blocker.kind is BlockerKind.SLOTS
    assert blocker.message == 'all 3 slots are busy: "rank" of item 0 and 1 more for 10 s, "load" of item 1 for 2.0 s'
    assert (blocker.item, blocker.step, blocker.since, blocker.count) == (0, "rank", BEGAN, 3)


async def test_the_default_concurrency_counts_where_a_run_asked_for_none(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 1, 1, 0), inputs=9)

        known = only(await asked(backend, 10, default_concurrency=1))
        unknown = only(await asked(backend, 10))

    assert known.kind is BlockerKind.SLOTS
    assert unknown.kind is BlockerKind.RUNNING


async def test_a_component_that_does_not_answer_is_told_with_its_age(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 1, 2, 0), max_concurrency=3)

        explanation = await asked(backend, 312)

    blocker = only(explanation)
    assert blocker.kind is BlockerKind.RUNNING
    assert blocker.message == 'the component of step "rank" has not answered for item 0 (attempt 2)'
    assert (blocker.since, blocker.item, blocker.step) == (BEGAN, 0, "rank")
    assert "since 22:13:20 UTC (5 min 12 s ago)" in str(explanation)


async def test_a_run_that_goes_on_has_no_blocker(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 1_000), inputs=9)

        explanation = await asked(backend, 1.5)

    assert explanation.blockers == ()
    assert explanation.summary == "running, 0 of 9 items have ended, 1 step under way; its newest event is 500 ms old"


@in_every_store
async def test_open_inputs_are_told_once_all_that_came_in_has_ended(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        record = RunRecord(id=RUN, root_id=RUN, flow_id=it.flow_id, key="night", created_at=BEGAN)
        await it.write(it.started(key="night"), ItemsAdmitted(0, [1, 2]), new=record)
        busy = await asked(backend, 1)
        await it.write(ItemEnded(0, Succeeded(1), 100), ItemEnded(1, Succeeded(1), 100))
        waiting = only(await asked(backend, 1))

    assert busy.blockers == ()
    assert waiting.kind is BlockerKind.INPUTS
    assert waiting.message == "its inputs are still open: 2 items came in, 2 have ended"
    assert waiting.remedy == (
        "whoever sends them goes on or closes them; "
        "if nobody does, submit the same inputs again with the key night: it goes on at input 2"
    )


async def test_inputs_whose_sender_died_are_told_to_be_sent_again(make_hand: Hand) -> None:
    backend = MemoryBackend(shared=True)
    async with make_hand(backend) as it:
        record = RunRecord(id=RUN, root_id=RUN, flow_id=it.flow_id, key="night", created_at=BEGAN)
        await it.write(it.started(key="night"), ItemsAdmitted(0, [1, 2]), new=record)
        await backend.owners.leave("engine-1")
        await it.enter("engine-2", name="two", ttl_s=60)
        ((_, it.lease),) = await backend.owners.claim("engine-2")
        ends = [ItemEnded(item, Succeeded(1), 300) for item in range(2)]
        await it.write(RunClaimed("engine-2", "two", 200), *ends)

        blocker = only(await asked(backend, 1))

    assert blocker.kind is BlockerKind.INPUTS
    assert blocker.message.endswith("2 have ended; who sent them is gone with engine engine-1")
    assert blocker.remedy == "submit the same inputs again with the key night: it goes on at input 2"


@in_every_store
async def test_a_sub_run_is_told_with_what_keeps_it(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 1, 1, 0))
        link = ParentLink(run_id=RUN, item=0, step=1, key="k")
        await it.begin(StepStarted(0, 0, 1, 0), run_id=CHILD, root_id=RUN, parent=link)
        await it.write(StepWaiting(0, 0, "a worker of queue gpu", 2_000), run_id=CHILD)

        explanation = await asked(backend, 10)

    own, below = explanation.blockers
    assert (own.kind, own.item, own.step) == (BlockerKind.SUB_RUN, 0, "rank")
    assert own.message == f'step "rank" of item 0 waits for sub-run {CHILD}, of which 0 of 1 items have ended'
    assert (below.run_id, below.kind) == (CHILD, BlockerKind.WAITING)
    assert f'\n    sub-run {CHILD}: step "load" of item 0 waits: a worker of queue gpu' in str(explanation)


async def test_a_run_in_which_nothing_happens_without_a_reason_points_at_its_engine(
    hand: Hand, backend: Backend
) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), StepSucceeded(0, 0, 1, 10))

        blocker = only(await asked(backend, 60))

    assert blocker.kind is BlockerKind.QUIET
    assert "engine one (host one) drives it" in blocker.message


async def test_a_run_that_has_ended_says_so_with_its_error(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        error = Failed(ErrorCode.ORCHESTRATOR_ERROR, "the run can't be recovered: its flow is not stored")
        await it.begin(RunEnded(RunStatus.RECOVERY_FAILED, 2_000, error))

        explanation = await asked(backend, 10)

    assert explanation.blockers == ()
    assert explanation.error == error
    assert str(explanation) == (
        f"run {RUN}: it has ended (recoveryFailed) after 2.0 s; 0 items succeeded, 0 failed: "
        "ORCHESTRATOR_ERROR: the run can't be recovered: its flow is not stored"
    )


async def test_a_checkpoint_keeps_what_is_open(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(inputs=4)
        open = [
            OpenItemSnapshot(0, [], [(0, 2)], [(0, 1, 0)], [(0, 1, 1)], [(0, 30_000)]),  # failed once, and died once
            OpenItemSnapshot(1, [(0, True, 1)], [(0, 1), (1, 1)], []),
            OpenItemSnapshot(2, [], [(0, 2)], [], [(0, 1, 1)]),
        ]
        await it.write(Checkpointed(0, [], 4, 4, 0, 0, open))

        retry, *running = (await asked(backend, 10)).blockers
        await it.write(Checkpointed(0, [], 4, 4, 0, 0, open, is_paused=True))
        paused = only(await asked(backend, 10))

    assert (retry.kind, retry.item, retry.until) == (BlockerKind.RETRYING, 0, BEGAN + 30)
    assert [(each.kind, each.item, each.step) for each in running] == [
        (BlockerKind.RUNNING, 1, "rank"),
        (BlockerKind.RUNNING, 2, "load"),
    ]
    assert (paused.kind, paused.since) == (BlockerKind.PAUSED, None)


@in_every_store
async def test_a_run_with_a_new_checkpoint_goes_on_as_of_the_event_before_it(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 50_000), StepSucceeded(0, 0, 1, 59_000), ItemEnded(0, Succeeded(1), 59_500))
        await it.write(Checkpointed(1, [], 4, 4, 1, 0, []))

        explanation = await asked(backend, 60)

    assert explanation.last_at == BEGAN + 59.5
    assert explanation.blockers == ()


async def test_a_wait_that_is_over_is_no_wait_any_more(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), StepWaiting(0, 0, "a worker", 2_000), StepWaiting(0, 0, "", 3_000))

        blocker = only(await asked(backend, 10))

    assert blocker.kind is BlockerKind.RUNNING


@in_every_store
async def test_what_began_before_a_checkpoint_is_told_with_its_time(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        began = (StepStarted(0, 0, 2, 1_000), StepRetried(1, 0, 1, TIMEOUT, 90.0, 2_000))
        await it.begin(StepRetried(0, 0, 1, TIMEOUT, 0.5, 400), *began, StepStarted(1, 0, 1, 0), inputs=2)
        open = [
            OpenItemSnapshot(index=0, outputs=[], attempts=[(0, 2)], retries=[(0, 1, 0)]),
            OpenItemSnapshot(index=1, outputs=[], attempts=[(0, 1)], retries=[(0, 1, 0)]),
        ]
        await it.write(Checkpointed(0, [], 2, 2, 0, 0, open))

        retry, running = (await asked(backend, 60)).blockers

    assert (retry.kind, retry.until) == (BlockerKind.RETRYING, BEGAN + 92)
    assert (running.kind, running.since) == (BlockerKind.RUNNING, BEGAN + 1)


async def test_an_unknown_run_is_refused(hand: Hand, backend: Backend) -> None:
    async with hand():
        with pytest.raises(RunNotFoundError):
            await asked(backend, 0)
