from typing import Any

import msgspec
import pytest

from stepflow.execution.events import StepSucceeded, decode_events, encode_events


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
