import anyio
import pytest

from stepflow.components import Batch, Components, Context
from stepflow.errors import RetryAfter
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.records import ErrorCode, Outcome
from stepflow.testing.clock import TurnedClock, turned_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(anyio_backend: str):
    return turned_backend(anyio_backend)


@pytest.fixture
async def calls(anyio_backend, slots, task):
    """Performs several inputs at a time; gives their outcomes in the order of the inputs."""
    slots.clock = TurnedClock()

    async def call_all(app: Components, inputs: list) -> list[Outcome]:
        plugin = FunctionsPlugin(app)
        outcomes: dict[int, Outcome] = {}

        async def one(index: int, input: object) -> None:
            outcomes[index] = await plugin.perform(task("/many", input, item=index), slots)

        async with plugin.open(), anyio.create_task_group() as tasks:
            for index, input in enumerate(inputs):
                tasks.start_soon(one, index, input)
        return [outcomes[index] for index in range(len(inputs))]

    return call_all


def outputs(outcomes):
    return [getattr(outcome, "output", None) for outcome in outcomes]


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_calls_are_made_together(calls, slots, color):
    app = Components()
    sizes: list[int] = []

    async def many(inputs: list[int]) -> list[int]:
        sizes.append(len(inputs))
        return [input + 1 for input in inputs]

    def many_in_thread(inputs: list[int]) -> list[int]:
        sizes.append(len(inputs))
        return [input + 1 for input in inputs]

    app.component("/many", batch=Batch(size=4, wait_ms=20))(many if color == "async" else many_in_thread)
    outcomes = await calls(app, list(range(10)))

    assert outputs(outcomes) == list(range(1, 11))
    assert sorted(sizes) == [2, 4, 4]
    assert slots.waits == ["a batch"] * 10


async def test_a_full_batch_does_not_wait(calls, slots):
    app = Components()

    @app.component("/many", batch=Batch(size=2, wait_ms=60_000))
    async def many(inputs):
        return inputs

    await calls(app, [1, 2, 3, 4])

    assert slots.clock.elapsed_s == 0


async def test_a_batch_waits_from_its_first_call_on(calls, slots):
    app = Components()

    @app.component("/many", batch=Batch(size=10, wait_ms=500))
    async def many(inputs):
        return inputs

    await calls(app, [1, 2, 3])

    assert slots.clock.elapsed_s == 0.5


async def test_an_exception_in_the_answer_fails_its_own_item(calls):
    app = Components()

    @app.component("/many", batch=Batch(size=3))
    async def many(inputs):
        return [ValueError("odd") if input % 2 else input for input in inputs]

    outcomes = await calls(app, [0, 1, 2])

    assert outputs(outcomes) == [0, None, 2]
    assert outcomes[1].code is ErrorCode.COMPONENT_FAILED
    assert outcomes[1].message == "odd"


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_an_exception_of_the_whole_batch_is_looked_for_one_by_one(calls, color):
    app = Components()
    batches: list[list[int]] = []

    async def many(inputs: list[int]) -> list[float]:
        batches.append(inputs)
        return [1 / input for input in inputs]

    def many_in_thread(inputs: list[int]) -> list[float]:
        batches.append(inputs)
        return [1 / input for input in inputs]

    app.component("/many", batch=Batch(size=3))(many if color == "async" else many_in_thread)
    outcomes = await calls(app, [1, 0, 2])

    assert outputs(outcomes) == [1.0, None, 0.5]
    assert outcomes[1].message == "division by zero"
    assert batches[1:] == [[value] for value in batches[0]]


async def test_a_missing_resource_is_everyones(calls):
    app = Components()
    batches: list[list[int]] = []

    @app.component("/many", batch=Batch(size=3))
    async def many(inputs: list[int]) -> list[int]:
        batches.append(inputs)
        raise RetryAfter(30)

    outcomes = await calls(app, [1, 2, 3])

    assert [outcome.retry_after_s for outcome in outcomes] == [30, 30, 30]
    assert len(batches) == 1


@pytest.mark.parametrize(("answer", "text"), [([1, 2], "a list of 2"), (None, "NoneType"), ("abc", "str")])
async def test_an_answer_of_another_length_fails_all(calls, answer, text):
    app = Components()

    @app.component("/many", batch=Batch(size=3))
    async def many(inputs):
        return answer

    outcomes = await calls(app, [1, 2, 3])

    assert [outcome.code for outcome in outcomes] == [ErrorCode.COMPONENT_FAILED] * 3
    assert text in outcomes[0].message


async def test_a_bad_input_or_output_fails_its_own_item(calls):
    app = Components()

    @app.component("/many", batch=Batch(size=3))
    async def many(inputs: list[float]):
        return [float("nan") if input == 1 else input for input in inputs]

    outcomes = await calls(app, [1, "x", 3])

    assert [getattr(outcome, "code", None) for outcome in outcomes] == [
        ErrorCode.COMPONENT_FAILED,
        ErrorCode.INVALID_INPUT,
        None,
    ]
    assert outcomes[2].output == 3


async def test_batches_of_a_limited_component_run_one_after_the_other(calls):
    app = Components()
    running = 0
    most = 0

    @app.component("/many", batch=Batch(size=2), max_concurrency=1)
    async def many(inputs):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        return inputs

    assert outputs(await calls(app, [1, 2, 3, 4, 5, 6])) == [1, 2, 3, 4, 5, 6]
    assert most == 1


async def test_a_cancelled_call_leaves_the_others_their_batch(calls, slots, task):
    app = Components()
    batches: list[list[int]] = []

    @app.component("/many", batch=Batch(size=10, wait_ms=1000))
    async def many(inputs, ctx: Context):
        batches.append(inputs)
        return inputs

    plugin = FunctionsPlugin(app)
    async with plugin.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(plugin.perform, task("/many", 1), slots)
        with anyio.move_on_after(0.5):
            await plugin.perform(task("/many", 2), slots)

    assert batches == [[1]]


async def test_a_batch_that_nobody_waits_for_is_cancelled(calls, slots, task):
    app = Components()
    ended: list[str] = []

    @app.component("/many", batch=Batch(size=1))
    async def many(inputs):
        try:
            await anyio.sleep(1000)
        finally:
            ended.append("cancelled")

    plugin = FunctionsPlugin(app)
    async with plugin.open():
        with anyio.move_on_after(10):
            await plugin.perform(task("/many", 1), slots)
        await anyio.sleep(1)
        assert ended == ["cancelled"]
