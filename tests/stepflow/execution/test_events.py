from typing import Any

import msgspec
import pytest

from stepflow.execution.events import StepFailed, StepSucceeded, decode_events, encode_events, event_to_json
from stepflow.records import ErrorCode, Failed


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_value_is_refused_while_there_is_still_room_to_encode_it_elsewhere() -> None:
    deep = StepSucceeded(0, 0, _nested(300), 0)
    too_deep = StepSucceeded(0, 0, _nested(700), 0)

    assert decode_events(encode_events([deep])) == [deep]
    assert msgspec.json.encode([too_deep])
    with pytest.raises(RecursionError):
        encode_events([too_deep])


def test_an_event_is_told_as_an_object_with_its_kind() -> None:
    failed = StepFailed(3, 1, Failed(ErrorCode.TIMEOUT, "late"), 20)

    told = event_to_json(failed)

    assert told == {
        "event": "StepFailed",
        "item": 3,
        "step": 1,
        "error": {"outcome": "failed", "code": "TIMEOUT", "message": "late"},
        "at": 20,
        "queued": 0,
    }
