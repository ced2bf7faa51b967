"""The plugin that answers for the components which come with the engine."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import msgspec

from stepflow.errors import (
    BlobNotFoundError,
    ComponentError,
    ProblemsError,
    RetryAfter,
    StoreUnavailableError,
)
from stepflow.plugins.builtin.component import Builtin
from stepflow.plugins.builtin.create_messages import CREATE_MESSAGES
from stepflow.plugins.builtin.eval import EVAL
from stepflow.plugins.builtin.get_blob import GET_BLOB
from stepflow.plugins.builtin.iterate import ITERATE
from stepflow.plugins.builtin.load_file import load_file
from stepflow.plugins.builtin.map import MAP
from stepflow.plugins.builtin.noop import NOOP
from stepflow.plugins.builtin.openai import OpenAISettings, openai
from stepflow.plugins.builtin.put_blob import PUT_BLOB
from stepflow.plugins.builtin.sleep import SLEEP
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Task


class BuiltinPlugin:
    """Components `/openai`, `/create_messages`, `/eval`, `/map`, `/iterate`, `/put_blob`, `/get_blob`, `/load_file`,
    `/noop` and `/sleep`.

    Each can be called by a second path too, `/builtin/eval` and so on: a catch-all route hands on the whole path that
    the flow wrote.
    """

    def __init__(self, *, load_roots: Sequence[Path] = (), openai: OpenAISettings | None = None) -> None:
        """
        Args:
            load_roots: the directories that `load_file` may read below; with none it refuses.
        """
        self._components = {f"/{builtin.name}": builtin for builtin in _builtins(load_roots, openai)}
        self._infos: tuple[ComponentInfo, ...] = ()

    def open(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        if not self._infos:
            listed = [_info(id, builtin) for id, builtin in self._components.items()]
            aliases = [msgspec.structs.replace(info, path=f"/builtin{info.id}", is_alias=True) for info in listed]
            self._infos = (*listed, *aliases)
        return self._infos

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """They are always known."""

    async def perform(self, task: Task, host: Host) -> Outcome:
        builtin = self._components.get(task.target) or self._components.get(task.target.removeprefix("/builtin"))
        if builtin is None:
            known = ", ".join(self._components)
            return Failed(ErrorCode.COMPONENT_NOT_FOUND, f"no builtin component {task.target!r}; there are {known}")
        try:
            return await builtin.perform(task, host)
        except (ComponentError, ProblemsError, BlobNotFoundError, StoreUnavailableError, OSError) as error:
            return _failed(error)


def _builtins(load_roots: Sequence[Path], settings: OpenAISettings | None) -> tuple[Builtin, ...]:
    return (
        openai(settings or OpenAISettings()),
        CREATE_MESSAGES,
        EVAL,
        MAP,
        ITERATE,
        PUT_BLOB,
        GET_BLOB,
        load_file(load_roots),
        NOOP,
        SLEEP,
    )


def _info(id: str, builtin: Builtin) -> ComponentInfo:
    return ComponentInfo(
        id=id,
        path=id,
        description=builtin.description,
        input_schema=builtin.input_schema(),
        output_schema=builtin.output_schema,
    )


def _failed(error: Exception) -> Failed:
    message = str(error)
    match error:
        case RetryAfter():
            return Failed(error.code, message, error.data, retry_after_s=error.delay_s)
        case ComponentError():
            return Failed(error.code, message, error.data)
        case ProblemsError():
            problems: Json = [{"path": problem.path, "message": problem.message} for problem in error.problems]
            return Failed(ErrorCode.INVALID_INPUT, message, {"problems": problems})
        case _:
            return Failed(ErrorCode.RESOURCE_UNAVAILABLE, message)
