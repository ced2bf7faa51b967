"""The engine for tests: scripts, calls, the clock, and what it tells when something is missing."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stepflow
from stepflow.execution.events import StepDefaulted, StepRetried, StepStarted, StepSucceeded
from stepflow.records import ErrorCode, Failed, RunStatus, Succeeded
from stepflow.testing.application import read_application
from stepflow.testing.clock import START
from stepflow.testing.engine import ClockStoppedError, ScriptedEngine
from stepflow.testing.script import UnscriptedError


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with ScriptedEngine() as engine:
        yield engine


def one_step(component: str = "/ask", **step: Any) -> dict[str, Any]:
    return {
        "steps": [{"id": "ask", "component": component, "input": {"$input": "$"}, **step}],
        "output": {"$step": "ask"},
    }


RETRY = {"action": "retry", "maxRetries": 3}


def test_ten_hours_of_rate_limiting_pass_at_once(engine: ScriptedEngine) -> None:
    engine.script("/llm/complete", [stepflow.RetryAfter(36_000), {"text": "ok"}])

    result = engine.run(one_step("/llm/complete", onError=RETRY), {"q": "hi"})

    assert result.output == {"text": "ok"}
    assert engine.calls("/llm/complete") == [{"q": "hi"}, {"q": "hi"}]
    assert engine.clock.elapsed_s == 36_000
    assert [event.delay_s for event in engine.events if isinstance(event, StepRetried)] == [36_000]


def test_a_failed_run_gives_its_error_and_does_not_raise(engine: ScriptedEngine) -> None:
    engine.script("/ask", [ValueError("no")])

    result = engine.run(one_step(), {})

    assert not result.ok
    assert result.error is not None
    assert (result.error.code, result.error.message) == (ErrorCode.COMPONENT_FAILED, "no")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"a": [1]}, Succeeded({"a": [1]})),
        (None, Succeeded(None)),
        (Succeeded("x"), Succeeded("x")),
        (Failed(ErrorCode.INVALID_INPUT, "no"), Failed(ErrorCode.INVALID_INPUT, "no")),
        (lambda input: {"got": input}, Succeeded({"got": 7})),
        (lambda input: Failed(ErrorCode.TIMEOUT, "late", may_retry=False), Failed(ErrorCode.TIMEOUT, "late")),
    ],
)
def test_an_answer_is_an_output_an_outcome_or_a_function(engine: ScriptedEngine, answer: Any, outcome: Any) -> None:
    engine.script("/ask", [answer])

    result = engine.run(one_step(), 7)

    assert (result.output, result.error and (result.error.code, result.error.message)) == (
        getattr(outcome, "output", None),
        (outcome.code, outcome.message) if isinstance(outcome, Failed) else None,
    )


def test_one_function_answers_every_call(engine: ScriptedEngine) -> None:
    async def double(input: int) -> int:
        await asyncio.sleep(3600)
        return input * 2

    engine.script("/ask", double)

    results = engine.run_batch(one_step(), [1, 2, 3])

    assert [result.output for result in results] == [2, 4, 6]
    assert engine.clock.elapsed_s == 3600


def test_a_script_cannot_change_what_the_flow_sent(engine: ScriptedEngine) -> None:
    def spoil(input: dict[str, Any]) -> str:
        input["items"].append("mine")
        return "done"

    engine.script("/ask", spoil)

    engine.run(one_step(), {"items": []})

    assert engine.calls("/ask") == [{"items": []}]


@pytest.mark.parametrize("answers", ["text", {"a": 1}, 7, None])
def test_what_is_no_script_is_refused(engine: ScriptedEngine, answers: Any) -> None:
    with pytest.raises(TypeError, match="a list with an answer for each call"):
        engine.script("/ask", answers)


def test_an_answer_that_is_not_json_fails_the_step(engine: ScriptedEngine) -> None:
    engine.script("/ask", [{"x": float("nan")}])

    result = engine.run(one_step(), {})

    assert result.error is not None
    assert "$.x" in result.error.message


def test_a_component_that_nobody_plays_fails_the_test_by_name(engine: ScriptedEngine) -> None:
    with pytest.raises(UnscriptedError, match="step 'ask' calls /llm/complete, which is neither scripted"):
        engine.run(one_step("/llm/complete"), {})


def test_a_misspelt_script_is_pointed_at(engine: ScriptedEngine) -> None:
    engine.script("/llm/compelte", [1])

    with pytest.raises(UnscriptedError, match="did you script /llm/compelte for it"):
        engine.run(one_step("/llm/complete"), {})


def test_a_default_does_not_hide_that_nobody_plays_a_component(engine: ScriptedEngine) -> None:
    flow = one_step("/llm/complete", onError={"action": "useDefault", "defaultValue": 1})

    with pytest.raises(UnscriptedError, match="/llm/complete"):
        engine.run(flow, {})

    assert any(isinstance(event, StepDefaulted) for event in engine.events)


def test_a_script_that_ends_too_early_fails_the_test_by_name(engine: ScriptedEngine) -> None:
    engine.script("/ask", [ValueError("first"), ValueError("second")])

    with pytest.raises(UnscriptedError, match="/ask was called 3 times, but 2 answers are scripted for it"):
        engine.run(one_step(onError=RETRY), {})


def test_what_was_not_told_yet_is_told_at_the_end() -> None:
    engine = ScriptedEngine()
    engine.clock.manual()
    engine.submit(one_step("/nobody"), [1])
    engine.clock.advance(1)

    with pytest.raises(UnscriptedError, match="/nobody"):
        engine.close()


def test_registered_components_answer_where_no_script_does() -> None:
    app = stepflow.Components()

    @app.component("/double")
    def double(input: int) -> int:
        return input * 2

    @app.component("/shout")
    async def shout(input: str) -> str:
        return input.upper()

    flow = {
        "steps": [
            {"id": "a", "component": "/double", "input": {"$input": "$"}},
            {"id": "b", "component": "/shout", "input": "hi"},
            {"id": "c", "component": "/builtin/noop", "input": {"$step": "a"}},
        ],
        "output": [{"$step": "a"}, {"$step": "b"}, {"$step": "c"}],
    }
    with ScriptedEngine(read_application(app)) as engine:
        engine.script("/shout", ["scripted"])

        result = engine.run(flow, 21)

        assert result.output == [42, "scripted", 42]
        assert engine.calls("/double") == [21]
        assert engine.clock.elapsed_s == 0


def test_a_thread_is_waited_for_while_an_hour_could_pass() -> None:
    app = stepflow.Components()
    gate = threading.Event()

    @app.component("/thread")
    def thread(input: int) -> str:
        gate.wait(60)
        return "thread"

    def busy(input: int) -> None:
        asyncio.get_running_loop().call_soon(gate.set)
        raise stepflow.RetryAfter(3600)

    flow = {
        "steps": [
            {"id": "thread", "component": "/thread", "input": 1},
            {"id": "retry", "component": "/busy", "input": 1, "onError": RETRY},
        ],
        "output": [{"$step": "thread"}, {"$step": "retry"}],
    }
    with ScriptedEngine(read_application(app)) as engine:
        engine.script("/busy", [busy, "in time"])

        result = engine.run(flow, None)

        ends = [(event.output, event.at) for event in engine.events if isinstance(event, StepSucceeded)]
        assert result.output == ["thread", "in time"]
        assert ends == [("thread", 0), ("in time", 3_600_000)]


def test_the_clock_is_turned_by_hand(engine: ScriptedEngine) -> None:
    engine.script("/ask", [stepflow.RetryAfter(60), "ok"])
    engine.clock.manual()

    run = engine.submit(one_step(onError=RETRY), [1])
    engine.clock.advance(59)
    before = len(engine.calls("/ask"))
    engine.clock.advance(1)

    assert before == 1
    assert run.record().status is RunStatus.COMPLETED
    assert [result.output for result in run.results()] == ["ok"]
    assert engine.clock.now() == START + 60


def test_waiting_for_a_clock_that_nobody_turns_is_told(engine: ScriptedEngine) -> None:
    engine.script("/ask", [stepflow.RetryAfter(60), "ok"])
    engine.clock.manual()

    with pytest.raises(ClockStoppedError, match=r"use submit\(\), then clock\.advance\(\)"):
        engine.run(one_step(onError=RETRY), 1)

    engine.clock.automatic()
    assert engine.clock.elapsed_s == 0


def test_runs_of_one_engine_keep_their_events_apart(engine: ScriptedEngine) -> None:
    engine.script("/ask", lambda input: input)

    first = engine.submit(one_step(), [1])
    first.results()
    second = engine.submit(one_step(), [1, 2])
    second.results()

    assert sum(isinstance(event, StepStarted) for event in engine.events_of(first.id)) == 1
    assert sum(isinstance(event, StepStarted) for event in engine.events_of(second.id)) == 2
    assert len(engine.events) == len(engine.events_of(first.id)) + len(engine.events_of(second.id))


def test_a_run_can_be_cancelled(engine: ScriptedEngine) -> None:
    async def never(input: Any) -> None:
        await asyncio.Event().wait()

    engine.script("/ask", never)
    engine.clock.manual()

    run = engine.submit(one_step(), [1])
    run.cancel()

    assert run.record().status is RunStatus.CANCELLED


def test_an_invalid_flow_raises(engine: ScriptedEngine) -> None:
    with pytest.raises(stepflow.FlowInvalidError):
        engine.run({"steps": [{"id": "a"}]}, 1)


def test_a_flow_is_found_beside_the_test(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("output: {$input: $}\n")
    with ScriptedEngine(folder=tmp_path) as engine:
        result = engine.run("hello.yaml", "hi")

        assert result.output == "hi"


def test_equal_seeds_give_equal_runs() -> None:
    def play() -> list[Any]:
        with ScriptedEngine(seed=3) as engine:
            engine.script("/ask", lambda input: Failed(ErrorCode.TIMEOUT, "late") if input % 2 else input)
            engine.run_batch(one_step(), list(range(6)))
            return engine.events

    assert play() == play()


def test_an_engine_that_is_not_used_starts_no_thread() -> None:
    before = threading.active_count()

    with ScriptedEngine():
        during = threading.active_count()

    assert during == before
