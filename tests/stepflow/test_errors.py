import copy
import pickle

import pytest

from stepflow import errors
from stepflow.errors import Problem, StepflowError
from stepflow.records import ErrorCode

ALL = [
    errors.FlowInvalidError([Problem(message="wrong", line=3)]),
    errors.ConfigError([Problem(message="wrong")]),
    errors.InputInvalidError([Problem(message="wrong")]),
    errors.RunFailedError(ErrorCode.TIMEOUT, "late", step="s", run_id="r", data={"a": 1}),
    errors.RunNotFoundError("r"),
    errors.AmbiguousRunError("0", ["01", "02"]),
    errors.RunActiveError("r", "it can't be deleted"),
    errors.BlobNotFoundError("b"),
    errors.EngineClosedError("closed"),
    errors.PluginUnavailableError("not there"),
    errors.StoreError("broken"),
    errors.StoreUnavailableError("not there"),
    errors.StoreInUseError("taken", pid=7),
    errors.SecretKeyError("no key"),
    errors.LeaseLostError("r", held=1, current=2),
    errors.ComponentError("bad", data={"a": 1}, code=ErrorCode.INVALID_INPUT),
    errors.InvalidInputError("bad", data=[1]),
    errors.ResourceUnavailableError("not there"),
    errors.RetryAfter(2.5, data={"a": 1}),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_an_error_goes_from_process_to_process_as_it_is(error: StepflowError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_every_error_is_tried() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StepflowError)}

    assert kinds - {StepflowError, errors.ProblemsError} == {type(error) for error in ALL}
