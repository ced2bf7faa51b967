"""What every `Plugin` must do."""

import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import ClassVar

import anyio
import msgspec
import pytest

from stepflow.protocols import Host, Plugin
from stepflow.records import ErrorCode, Failed, Json, Outcome, Succeeded, Task
from stepflow.testing.host import LoneHost

_ID = "01900000-0000-7000-8000-000000000001"


class PluginSuite:
    """Subclass it, give a `plugin` fixture (a plugin that is not open yet), and say what its components do.

    `succeeds` are calls that succeed: the target, an input, its output. `fails` are calls that fail: the target, an
    input, the code. `waits` is a call that does not end by itself, or only after hours; None where there is none.
    """

    pytestmark = pytest.mark.anyio

    succeeds: ClassVar[Sequence[tuple[str, Json, Json]]] = ()
    fails: ClassVar[Sequence[tuple[str, Json, ErrorCode]]] = ()
    waits: ClassVar[tuple[str, Json] | None] = None
    params: ClassVar[Mapping[str, Json]] = {}  # of the route that leads to the plugin

    @pytest.fixture
    def plugin(self) -> Plugin:
        pytest.fail(f"{type(self).__name__} gives no `plugin` fixture: the plugin to test, not open yet")

    @pytest.fixture
    async def opened(self, plugin: Plugin) -> AsyncIterator[Plugin]:
        async with plugin.open():
            yield plugin

    @pytest.fixture
    def host(self) -> Host:
        return LoneHost()

    def task(self, target: str, input: Json, *, item: int = 0, attempt: int = 1) -> Task:
        return Task(
            run_id=_ID,
            root_run_id=_ID,
            flow_id="f" * 64,
            item=item,
            step=0,
            step_id="step",
            component=f"/tested/{target.removeprefix('/')}",
            target=target,
            input=copy.deepcopy(input),
            attempt=attempt,
            params=self.params,
        )

    async def call(self, plugin: Plugin, host: Host, target: str, input: Json) -> Outcome:
        with anyio.fail_after(30):
            return await plugin.perform(self.task(target, input), host)

    async def test_the_components_are_known_once_they_were_waited_for(self, opened: Plugin) -> None:
        with anyio.fail_after(30):
            await opened.wait_components(self.params)

        infos = opened.components(self.params)

        assert infos is not None
        assert len({info.id for info in infos if not info.is_alias}) == len([i for i in infos if not i.is_alias])

    async def test_an_unchanged_list_of_components_is_the_same_object(self, opened: Plugin) -> None:
        await opened.wait_components(self.params)

        assert opened.components(self.params) is opened.components(self.params)

    async def test_a_component_that_is_not_there_is_not_found(self, opened: Plugin, host: Host) -> None:
        outcome = await self.call(opened, host, "/surely/not-there", {})

        assert isinstance(outcome, Failed)
        assert outcome.code is ErrorCode.COMPONENT_NOT_FOUND
        assert "not-there" in outcome.message

    async def test_an_answer_is_a_success(self, opened: Plugin, host: Host) -> None:
        assert self.succeeds, "name calls that succeed"

        for target, input, output in self.succeeds:
            assert await self.call(opened, host, target, input) == Succeeded(output), target

    async def test_a_failure_is_a_value_with_its_code(self, opened: Plugin, host: Host) -> None:
        assert self.fails, "name calls that fail"

        for target, input, code in self.fails:
            outcome = await self.call(opened, host, target, input)
            assert isinstance(outcome, Failed), target
            assert (outcome.code, bool(outcome.message)) == (code, True), target

    async def test_an_outcome_is_what_a_replay_of_the_journal_gives(self, opened: Plugin, host: Host) -> None:
        for target, input, _ in [*self.succeeds, *self.fails]:
            outcome = await self.call(opened, host, target, input)
            replayed = msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome)
            assert replayed == outcome, target
            assert repr(replayed) == repr(outcome), target

    async def test_the_input_stays_as_it_was(self, opened: Plugin, host: Host) -> None:
        for target, input, _ in [*self.succeeds, *self.fails]:
            task = self.task(target, input)
            with anyio.fail_after(30):
                await opened.perform(task, host)
            assert task.input == input, target

    async def test_an_output_belongs_to_the_caller(self, opened: Plugin, host: Host) -> None:
        for target, input, output in self.succeeds:
            first = await self.call(opened, host, target, input)
            assert isinstance(first, Succeeded), target
            _spoil(first.output)
            assert await self.call(opened, host, target, input) == Succeeded(output), target

    async def test_calls_at_the_same_moment_get_their_own_answers(self, opened: Plugin, host: Host) -> None:
        answered: list[tuple[str, bool]] = []

        async def call(target: str, input: Json, output: Json) -> None:
            answered.append((target, await self.call(opened, host, target, input) == Succeeded(output)))

        async with anyio.create_task_group() as calls:
            for target, input, output in [*self.succeeds] * 20:
                calls.start_soon(call, target, input, output)

        assert len(answered) == 20 * len(self.succeeds)
        assert all(right for _, right in answered)

    async def test_a_task_is_performed_again_at_its_next_attempt(self, opened: Plugin, host: Host) -> None:
        target, input, output = self.succeeds[0]

        outcomes = [await opened.perform(self.task(target, input, attempt=attempt), host) for attempt in (1, 2, 3)]

        assert outcomes == [Succeeded(output)] * 3

    async def test_a_cancelled_call_ends_and_the_next_one_works(self, opened: Plugin, host: Host) -> None:
        if self.waits is None:
            return
        ended: list[Outcome] = []

        async def wait(target: str, input: Json) -> None:
            ended.append(await opened.perform(self.task(target, input), host))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as calls:
                calls.start_soon(wait, *self.waits)
                await anyio.wait_all_tasks_blocked()
                calls.cancel_scope.cancel()

        target, input, output = self.succeeds[0]
        assert ended == []
        assert await self.call(opened, host, target, input) == Succeeded(output)


def _spoil(value: Json) -> None:
    if isinstance(value, dict):
        value["spoilt by the caller"] = True
    elif isinstance(value, list):
        value.append("spoilt by the caller")
