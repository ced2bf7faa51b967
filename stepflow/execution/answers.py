"""What came of tasks, said to an engine that may not be the one that drives their runs."""

import msgspec

from stepflow.errors import SecretKeyError
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.sealing import Vault
from stepflow.protocols import Backend, Chance, Clock
from stepflow.records import Failed, Message, MessageKind, Outcome, RunId, RunRecord, Succeeded, TaskId

_PLAIN = b"."
_SEALED = b"!"


class GivenAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a message to the owner of a run."""

    task_id: TaskId
    outcome: Succeeded | Failed
    attempt: int | None = None  # None: whoever answers does not know


_ENCODE = msgspec.json.Encoder()
_DECODE = msgspec.json.Decoder(GivenAnswer)


class Answers:
    """Takes answers to tasks of any run.

    They are recorded where the run is driven here, and sent to its owner, or whoever will be that, where it is not.
    """

    def __init__(
        self, *, backend: Backend, executor: Executor, clock: Clock, chance: Chance, vault: Vault | None
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._clock = clock
        self._chance = chance
        self._vault = vault

    async def take(self, run_id: RunId, task_id: TaskId, outcome: Outcome, attempt: int | None) -> bool:
        """See `Engine.answer`."""
        given = GivenAnswer(task_id=task_id, outcome=outcome, attempt=attempt)
        run = self._executor.live(run_id)
        if run is not None:
            return await self._record(run, given)
        record = await self._backend.runs.get(run_id)
        if record is None or record.status.is_terminal:
            return False
        id = self._chance.run_id(self._clock.now())
        payload = self._closed(record, _ENCODE.encode(given))
        message = Message(id=id, run_id=run_id, kind=MessageKind.ANSWER, payload=payload)
        return await self._backend.inbox.send(message)

    async def _record(self, run: LiveRun, given: GivenAnswer) -> bool:
        if not self._executor.answered(run, given.task_id, given.outcome, given.attempt):
            return False
        await self._executor.durable(run)
        return not run.is_abandoned

    def heed(self, run: LiveRun, message: Message) -> None:
        """Record what a message says came of a task."""
        given = _DECODE.decode(self._opened(message.payload))
        self._executor.answered(run, given.task_id, given.outcome, given.attempt)

    def _closed(self, record: RunRecord, payload: bytes) -> bytes:
        """Raises: SecretKeyError, where the run has secrets and nothing here can seal the answer."""
        if self._vault is None or not record.is_sealed:
            return _PLAIN + payload
        if not self._vault.key_names:
            raise SecretKeyError(
                f"run {record.id} has secrets and this engine has no key to seal its answers with: "
                "set STEPFLOW_SECRET_KEY as on the others"
            )
        return _SEALED + self._vault.seal_bytes(payload)

    def _opened(self, payload: bytes) -> bytes:
        if payload.startswith(_PLAIN) or self._vault is None:
            return payload.removeprefix(_PLAIN)
        return self._vault.open_bytes(payload.removeprefix(_SEALED))
