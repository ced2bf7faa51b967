"""Whether there is room for another run in the queues that it needs."""

from collections.abc import Mapping

from stepflow.engine import Engine
from stepflow.records import Json
from stepflow_grpc.plugin import Hub, QueuePlugin
from stepflow_grpc.refusals import full


class Room:
    """Turns submitters away while a queue is too long, so that memory does not grow with what they send."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self._engine = engine
        self._hub = hub

    def check(self, flow: Mapping[str, Json]) -> None:
        """Raises: CallError, where a queue that a step of the flow may go to is full."""
        if any(self._hub.queues.full(queue) for queue in self._queues()):
            for queue in self._needed(flow):
                found = self._hub.queues.full(queue)
                if found is not None:
                    raise full(found)

    def _queues(self) -> dict[str, None]:
        return {
            queue: None
            for name, plugin in self._queue_plugins().items()
            for queue in (plugin.queue, *(plugin.queue_of(params) for _, params in self._engine.routes_to(name)))
        }

    def _needed(self, flow: Mapping[str, Json]) -> dict[str, None]:
        plugins = self._queue_plugins()
        steps = flow.get("steps")
        paths = (
            [step.get("component") for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []
        )
        return {
            plugins[name].queue_of(params): None
            for path in paths
            if isinstance(path, str)
            for name, params in self._engine.plugins_behind(path)
            if name in plugins
        }

    def _queue_plugins(self) -> dict[str, QueuePlugin]:
        return {name: plugin for name, plugin in self._engine.plugins().items() if isinstance(plugin, QueuePlugin)}
