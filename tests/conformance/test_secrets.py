"""What is marked as secret stands in no text that people read; data stay as they are."""

from typing import Annotated

import msgspec
import pytest

from stepflow.errors import RunFailedError
from stepflow.execution.events import StepFailed, StepRetried

pytestmark = pytest.mark.anyio

SECRET = {"type": "string", "is_secret": True}


def keyed(**flow):
    """A flow with a secret variable and a secret field of the input."""
    return {
        "schemas": {
            "properties": {
                "variables": {"properties": {"key": SECRET}},
                "input": {"properties": {"pins": {"type": "array", "items": SECRET}}},
                **flow.pop("schemas", {}),
            }
        },
        **flow,
    }


async def test_a_message_and_the_message_of_its_cause_are_redacted(make_engine, app):
    @app.component("/call")
    async def call(value: dict) -> None:
        try:
            raise ConnectionError(f"https://me:{value['key']}@host refused {value['pins'][1]}")
        except ConnectionError as error:
            raise ValueError(f"no answer to {value['key']}") from error

    step = {"id": "it", "component": "/call", "input": {"key": {"$variable": "key"}, "pins": {"$input": "pins"}}}
    async with make_engine() as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run(
                keyed(steps=[step], output={"$step": "it"}),
                {"pins": ["first-pin", "second-pin"]},
                variables={"key": "hunter22"},
            )

    error = caught.value
    assert error.message == "no answer to [REDACTED]"
    assert error.data["cause"]["message"] == "https://me:[REDACTED]@host refused [REDACTED]"
    assert error.data["cause"]["exception_type"] == "ConnectionError"


@pytest.mark.parametrize("mode", ["warn", "strict"])
async def test_what_is_wrong_with_an_output_is_told_without_secrets(make_engine, caplog, mode):
    flow = keyed(schemas={"output": {"type": "integer"}}, output={"$variable": "key"})
    async with make_engine(output_validation=mode) as engine:
        run = await engine.submit(flow, [{}], variables={"key": "hunter22"})
        await run.wait()
        result = await run.result(0)

    told = caplog.text if mode == "warn" else result.error.message
    assert "[REDACTED]" in told
    assert "hunter22" not in told
    assert result.output == ("hunter22" if mode == "warn" else None), "data are never changed"


class Login(msgspec.Struct):
    user: str
    password: Annotated[str, msgspec.Meta(extra_json_schema={"is_secret": True})]


async def test_what_a_component_marks_in_its_input_stays_out_of_its_failures(make_engine, app, seen, one_step):
    @app.component("/login")
    async def login(value: Login) -> None:
        raise PermissionError(f"{value.user} may not log in with {value.password}")

    flow = one_step("/login", input={"user": "ada", "password": {"$input": "$"}}, onError={"action": "retry"})
    async with make_engine() as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run(flow, "hunter22")

    assert caught.value.message == "ada may not log in with [REDACTED]"
    assert "hunter22" not in str(seen.of(StepRetried, StepFailed))
