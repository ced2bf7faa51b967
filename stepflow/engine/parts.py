"""An open engine's parts, and which of them knows which."""

import msgspec
from anyio.abc import TaskGroup

from stepflow.engine.setup import Setup
from stepflow.execution.answers import Answers
from stepflow.execution.dispatch import Dispatcher
from stepflow.execution.envelope import Envelope
from stepflow.execution.exchange import EngineExchange
from stepflow.execution.executor import Executor
from stepflow.execution.host import EngineHost
from stepflow.execution.intake import Intake
from stepflow.execution.live import LiveRun
from stepflow.execution.membership import Membership
from stepflow.execution.recovery import Recovery
from stepflow.plugins.normal import normalise
from stepflow.protocols import Backend
from stepflow.records import RunId


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine has while it is open."""

    backend: Backend
    dispatcher: Dispatcher
    executor: Executor
    host: EngineHost
    membership: Membership
    intake: Intake

    def live(self, run_id: RunId) -> LiveRun | None:
        """The run of this id, if it is being driven here."""
        return self.executor.live(run_id)


def wired(setup: Setup, tasks: TaskGroup) -> Parts:
    """The parts, each with those that it needs. Nothing goes on yet."""
    dispatcher = Dispatcher(setup.table, setup.sources, tasks)
    executor = _executor(setup, dispatcher, tasks)
    host = executor.steps.host = EngineHost(
        executor=executor,
        runs=setup.backend.runs,
        blobs=setup.backend.blobs,
        clock=setup.clock,
        chance=setup.chance,
        plans=setup.plans,
        settings=setup.rules.retry,
        output_validation=setup.rules.output_validation,
    )
    membership = _membership(setup, executor, tasks)
    executor.exchange = _exchange(setup, executor, membership, tasks)
    return Parts(
        backend=setup.backend,
        dispatcher=dispatcher,
        executor=executor,
        host=host,
        membership=membership,
        intake=_intake(setup, executor, membership, tasks),
    )


def _executor(setup: Setup, dispatcher: Dispatcher, tasks: TaskGroup) -> Executor:
    return Executor(
        store=setup.backend.journal,
        is_durable=setup.backend.is_durable,
        dispatcher=dispatcher,
        clock=setup.clock,
        chance=setup.chance,
        tasks=tasks,
        checkpoint_every=setup.recovery.checkpoint_interval,
        observers=setup.observers,
        vault=setup.vault,
    )


def _membership(setup: Setup, executor: Executor, tasks: TaskGroup) -> Membership:
    membership = Membership(
        backend=setup.backend,
        executor=executor,
        clock=setup.clock,
        chance=setup.chance,
        identity=setup.identity,
        settings=setup.recovery,
        retention=setup.retention,
    )
    membership.recovery = Recovery(
        backend=setup.backend,
        executor=executor,
        clock=setup.clock,
        tasks=tasks,
        plans=setup.plans,
        settings=setup.rules.retry,
        max_concurrency=setup.rules.max_concurrency,
        output_validation=setup.rules.output_validation,
        heed=membership.heed,
    )
    membership.answers = Answers(
        backend=setup.backend, executor=executor, clock=setup.clock, chance=setup.chance, vault=setup.vault
    )
    return membership


def _exchange(setup: Setup, executor: Executor, membership: Membership, tasks: TaskGroup) -> EngineExchange:
    def has_secrets(run_id: RunId) -> bool:
        live = executor.live(run_id)
        return live is not None and live.sealer is not None

    envelope = Envelope(setup.vault, has_secrets)
    return EngineExchange(setup.backend, setup.clock, tasks, lambda: membership.owner, envelope)


def _intake(setup: Setup, executor: Executor, membership: Membership, tasks: TaskGroup) -> Intake:
    return Intake(
        backend=setup.backend,
        executor=executor,
        membership=membership,
        clock=setup.clock,
        chance=setup.chance,
        tasks=tasks,
        plans=setup.plans,
        plain=normalise,
        rules=setup.rules,
    )
