"""What is around a task on its way through the store: its body in clear, or sealed where its run has secrets."""

from collections.abc import Callable

from msgspec.structs import replace

from stepflow.execution.sealing import Vault
from stepflow.records import Offer, RunId

_PLAIN = b"."
_SEALED = b"!"


class Envelope:
    """Closes and opens bodies. A sealed task goes to a queue of its own, which only engines with its key serve.

    Args:
        vault: None: nothing of the store outlives the process, so nothing is sealed.
        has_secrets: whether a run that is driven here has secrets.
    """

    def __init__(self, vault: Vault | None, has_secrets: Callable[[RunId], bool]) -> None:
        self._vault = vault
        self._has_secrets = has_secrets

    def queues(self, queue: str) -> list[str]:
        """Where tasks for the workers of a queue may come from."""
        keys = [] if self._vault is None else self._vault.key_names
        return [queue, *(_sealed_queue(queue, key) for key in keys)]

    def closed(self, offer: Offer) -> Offer | None:
        """An offer as others may see it; None: it holds secrets and there is no key, so it stays here."""
        if self._vault is None or not self._has_secrets(offer.run_id):
            return replace(offer, body=_PLAIN + offer.body)
        if not self._vault.key_names:
            return None
        queue = _sealed_queue(offer.queue, self._vault.key_names[0])
        return replace(offer, queue=queue, body=_SEALED + self._vault.seal_bytes(offer.body))

    def answered(self, body: bytes, task: bytes) -> bytes:
        """An answer, closed as its task was."""
        if self._vault is None or task.startswith(_PLAIN):
            return _PLAIN + body
        return _SEALED + self._vault.seal_bytes(body)

    def opened(self, body: bytes) -> bytes:
        """Raises: SecretKeyError."""
        if self._vault is None or body.startswith(_PLAIN):
            return body.removeprefix(_PLAIN)
        return self._vault.open_bytes(body.removeprefix(_SEALED))


def _sealed_queue(queue: str, key: str) -> str:
    return f"{queue}/sealed/{key}"
