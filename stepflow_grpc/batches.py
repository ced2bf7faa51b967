"""What our client and our server say to each other about batches: JSON objects, one a frame.

A batch begins once all of its inputs are there: whoever breaks off before has started nothing. Inputs and results are
JSON text on their way, so that large integers and the order of keys stay as they are.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from stepflow.records import BlobId, ItemResult, Json, RunId, RunRecord
from stepflow_grpc.messages import Frame

FEATURE = "batches"
"""How `HealthCheck` says that a server has the service."""

_PART = 256 * 1024
"""Characters of an input in one frame, if it is longer: as text within JSON they stay below 4 MiB for certain."""

_FULL = 256 * 1024
_MOST = 1_000


class Opening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first frame: which flow is run, and how."""

    flow_id: BlobId
    variables: Mapping[str, Json] = {}
    overrides: Json = None
    max_concurrency: int | None = None
    deadline_s: float | None = None
    validation: str | None = None
    key: str | None = None
    new: bool = False
    asks: bool = False  # whether the batch may come: it is not begun to be sent before the answer


class Accepted(msgspec.Struct, frozen=True):
    """The answer to an opening that asks: the flow is there, and the server has room."""


class FromClient(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    opening: Opening | None = None
    inputs: Sequence[Json] = ()
    part: str = ""  # of the text of an input that no frame could hold
    is_last_part: bool = False
    is_complete: bool = False  # nothing follows, and the batch may begin


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The run is stored."""

    run: RunRecord


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which results are wanted."""

    run_id: RunId
    order: str = "item"  # or completion
    skip: int = 0  # so many of the first are known already


class FromRun(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    results: Sequence[ItemResult]


class _Pieces(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some inputs, or some results, each one as text already."""

    inputs: Sequence[msgspec.Raw] = ()
    results: Sequence[msgspec.Raw] = ()


_ENCODE = msgspec.json.Encoder()
_FROM_CLIENT = msgspec.json.Decoder(FromClient)
_SUBMITTED = msgspec.json.Decoder(Submitted)
_QUESTION = msgspec.json.Decoder(Question)
_FROM_RUN = msgspec.json.Decoder(FromRun)


def frame(content: msgspec.Struct) -> Frame:
    """The content as a message."""
    return Frame(json=_ENCODE.encode(content))


def from_client(message: Frame) -> FromClient:
    """Raises: msgspec.DecodeError."""
    return _FROM_CLIENT.decode(message.json)


def submitted(message: Frame) -> Submitted:
    """Raises: msgspec.DecodeError."""
    return _SUBMITTED.decode(message.json)


def question(message: Frame) -> Question:
    """Raises: msgspec.DecodeError."""
    return _QUESTION.decode(message.json)


def from_run(message: Frame) -> FromRun:
    """Raises: msgspec.DecodeError."""
    return _FROM_RUN.decode(message.json)


def result_frames(results: Sequence[ItemResult]) -> Iterator[Frame]:
    """The results in frames that are not overfull; a result larger than that has one of its own."""
    pieces = Pieces()
    for result in results:
        text = _ENCODE.encode(result)
        if not pieces.has_room(len(text)):
            yield pieces.take_results()
        pieces.add(text)
    if pieces.count:
        yield pieces.take_results()


def part_frames(text: str) -> Iterator[Frame]:
    """An input of any length, in parts."""
    for start in range(0, len(text), _PART):
        end = start + _PART
        yield frame(FromClient(part=text[start:end], is_last_part=end >= len(text)))


class Pieces:
    """Gathers texts until a frame is full."""

    def __init__(self) -> None:
        self._texts: list[msgspec.Raw] = []
        self._size = 0

    @property
    def count(self) -> int:
        return len(self._texts)

    @staticmethod
    def is_overlong(size: int) -> bool:
        """Whether a text would be more than a frame by itself."""
        return size > _PART

    def has_room(self, size: int) -> bool:
        return not self._texts or (self._size + size <= _FULL and len(self._texts) < _MOST)

    def add(self, text: bytes) -> None:
        self._texts.append(msgspec.Raw(text))
        self._size += len(text) + 1

    def take_inputs(self) -> Frame:
        return frame(_Pieces(inputs=self._taken()))

    def take_results(self) -> Frame:
        return frame(_Pieces(results=self._taken()))

    def _taken(self) -> list[msgspec.Raw]:
        taken, self._texts, self._size = self._texts, [], 0
        return taken
