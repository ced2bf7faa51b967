import pytest

from stepflow.errors import BlobNotFoundError, ComponentError, InvalidInputError, ResourceUnavailableError, RetryAfter
from stepflow.plugins.failure import failed_by
from stepflow.records import ErrorCode


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ComponentError("no"), ErrorCode.COMPONENT_FAILED),
        (ComponentError("no", code=ErrorCode.TIMEOUT), ErrorCode.TIMEOUT),
        (InvalidInputError("no"), ErrorCode.INVALID_INPUT),
        (ResourceUnavailableError("no"), ErrorCode.RESOURCE_UNAVAILABLE),
        (RetryAfter(3), ErrorCode.RESOURCE_UNAVAILABLE),
        (BlobNotFoundError("0"), ErrorCode.RESOURCE_UNAVAILABLE),
        (ValueError("no"), ErrorCode.COMPONENT_FAILED),
        (KeyError("no"), ErrorCode.COMPONENT_FAILED),
        (TypeError("no"), ErrorCode.INVALID_INPUT),
        (OSError("no"), ErrorCode.RESOURCE_UNAVAILABLE),
        (ConnectionResetError("no"), ErrorCode.RESOURCE_UNAVAILABLE),
        (TimeoutError("no"), ErrorCode.RESOURCE_UNAVAILABLE),
        (SystemExit(3), ErrorCode.COMPONENT_FAILED),
        (ExceptionGroup("several", [ValueError("a"), OSError("b")]), ErrorCode.COMPONENT_FAILED),
        (ExceptionGroup("one", [ExceptionGroup("one", [OSError("b")])]), ErrorCode.RESOURCE_UNAVAILABLE),
    ],
)
def test_each_kind_of_exception_has_its_code(error, code):
    assert failed_by(raised(error)).code is code


def test_the_message_is_the_text_of_the_exception():
    assert failed_by(ValueError("out of range")).message == "out of range"
    assert failed_by(KeyError("x")).message == "'x'"
    assert failed_by(ValueError()).message == "ValueError"
    assert failed_by(ExceptionGroup("one", [OSError("disk")])).message == "disk"


def test_retry_after_keeps_its_delay():
    assert failed_by(RetryAfter(20)).retry_after_s == 20
    assert failed_by(ValueError("no")).retry_after_s is None


def test_the_data_hold_the_type_the_details_and_the_cause():
    error = ComponentError("no", data={"status": 429})
    error.__cause__ = ConnectionError("refused")

    assert failed_by(error).data == {
        "exception_type": "ComponentError",
        "details": {"status": 429},
        "cause": {"exception_type": "ConnectionError", "message": "refused"},
    }


def test_details_that_are_not_json_are_kept_as_text():
    assert failed_by(ComponentError("no", data=b"x")).data["details"] == "b'x'"


def test_an_unexpected_exception_keeps_a_bounded_traceback():
    def fall(depth: int) -> None:
        if depth == 0:
            raise ValueError("x" * 100_000)
        fall(depth - 1)

    try:
        fall(200)
    except ValueError as error:
        failed = failed_by(error)

    assert len(failed.message) < 11_000
    assert 0 < len(failed.data["traceback"]) <= 4_100
    assert "fall" in failed.data["traceback"]


def test_an_exception_whose_text_cannot_be_made_is_still_a_failure():
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Broken" in failed_by(Broken()).message


def test_a_lone_surrogate_in_the_message_is_written_out():
    assert failed_by(ValueError("a\ud800")).message == "a\\ud800"
