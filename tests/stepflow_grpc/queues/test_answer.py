import msgspec
import pytest

from stepflow.records import ErrorCode, Failed, Outcome, Succeeded
from stepflow_grpc.queues.answer import pack_answer, unpack_answer

OUTCOMES = [Succeeded({"a": [1]}), Succeeded(None), Failed(ErrorCode.TIMEOUT, "late", data={"ran_ms": 1})]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_answer_tells_the_outcome_and_how_long_it_took(outcome: Outcome) -> None:
    assert unpack_answer(pack_answer(outcome, 1.25)) == (outcome, 1.25)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_older_engine_understands_it_and_is_understood(outcome: Outcome) -> None:
    older = msgspec.json.decode(pack_answer(outcome, 1.25), type=Succeeded | Failed)  # type: ignore[arg-type]

    assert older == outcome
    assert unpack_answer(msgspec.json.encode(outcome)) == (outcome, None)
