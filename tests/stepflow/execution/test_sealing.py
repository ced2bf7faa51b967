"""What is written of a run shows no secret, and opened again it is what it was."""

import json
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from stepflow.errors import InputInvalidError, SecretKeyError
from stepflow.execution.events import (
    Checkpointed,
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    OpenItemSnapshot,
    RunEnded,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepSucceeded,
    StepWaiting,
    encode_events,
)
from stepflow.execution.references import shown
from stepflow.execution.sealing import Sealer, Vault
from stepflow.execution.submission import Plans, Prepared, prepare
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.read import read_flow
from stepflow.records import ErrorCode, Failed, ItemResult, RunStatus, Succeeded

KEY, OTHER = (Fernet.generate_key().decode() for _ in range(2))
SECRET: dict[str, Any] = {"type": "string", "is_secret": True}
VALUE = 'hunter2-"q"\n-wässer'


def prepared(variables: dict[str, Any] | None = None, input: Any = None, **given: Any) -> Prepared:
    """A flow with these schemas of variables and input, and the values that were given."""
    schemas: dict[str, Any] = {"variables": {"properties": variables or {}}}
    if input is not None:
        schemas["input"] = {"properties": input}
    flow = read_flow({"schemas": {"properties": schemas}, "output": 1})
    return prepare(Plans(), flow, variables=given, overrides=None, settings=RetrySettings(), validation="off")


def sealer_of(vault: Vault, prepared: Prepared, **options: Any) -> Sealer:
    sealer = vault.sealer(prepared, **options)
    assert sealer is not None
    return sealer


def started(**variables: Any) -> RunStarted:
    return RunStarted("r", "r", "f", 0.0, variables=variables)


def written(sealer: Sealer, *events: Event) -> bytes:
    (row,) = sealer.seal([list(events)])
    return encode_events(row)


def test_a_variable_of_the_caller_is_sealed_wherever_it_turns_up() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})
    sealer = sealer_of(vault, prepared({"key": SECRET}, key=VALUE))
    failed = Failed(ErrorCode.COMPONENT_FAILED, "refused", {"cause": [f"no: {VALUE}"]})
    events: list[Event] = [
        started(key=VALUE, plain="p"),
        ItemsAdmitted(0, [VALUE, {"copy": f"Bearer {VALUE}"}]),
        StepSucceeded(0, 0, {"deep": [{VALUE: 1}], "json": json.dumps({"k": VALUE}), "repr": repr([VALUE])}, 1),
        StepSucceeded(0, 1, msgspec.json.encode([VALUE]).decode(), 1),
        StepFailed(0, 2, failed, 1),
        StepRetried(0, 2, 1, failed, 0.5, 1),
        StepDefaulted(0, 2, VALUE, failed, 1),
        Checkpointed(0, [], 2, 2, 0, 0, [OpenItemSnapshot(0, [(0, True, VALUE), (1, False, failed)], [], [])]),
        ItemEnded(0, Succeeded({"told": VALUE}), 1),
        RunEnded(RunStatus.FAILED, 2, failed),
    ]

    payload = written(sealer, *events)

    for spelling in (VALUE, "hunter2", "wässer"):
        assert spelling not in payload.decode()
    opening = vault.opening()
    opened = opening.decode(payload)
    assert opening.missing is None
    assert encode_events(opened) == encode_events(events)


def test_a_message_loses_the_secret_for_good() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})
    sealer = sealer_of(vault, prepared({"key": SECRET}, key="hunter2"))

    payload = written(
        sealer,
        RunEnded(RunStatus.FAILED, 2, Failed(ErrorCode.CANCELLED, "the inputs broke off at hunter2")),
        StepWaiting(0, 0, "a worker of hunter2", 3),
    )

    ended, waiting = vault.opening().decode(payload)
    assert isinstance(ended, RunEnded)
    assert ended.error is not None
    assert ended.error.message == "the inputs broke off at [REDACTED]"
    assert isinstance(waiting, StepWaiting)
    assert waiting.reason == "a worker of [REDACTED]"


def test_a_value_from_the_environment_is_stored_as_its_name_without_any_key() -> None:
    vault = Vault({"SHOP_KEY": VALUE})
    sealer = sealer_of(vault, prepared({"key": {**SECRET, "env_var": "SHOP_KEY"}}, key=VALUE))
    events: list[Event] = [
        started(key=VALUE),
        StepSucceeded(0, 0, [VALUE, f"a {VALUE} b {VALUE}", json.dumps(VALUE), repr(VALUE), {VALUE: 1}], 1),
    ]

    payload = written(sealer, *events)

    assert "hunter2" not in payload.decode()
    assert b'{"key":{"$sealed":{"env":"SHOP_KEY"}}}' in payload
    assert encode_events(vault.opening().decode(payload)) == encode_events(events)
    assert vault.opening().missing is None


def test_a_value_from_the_environment_is_read_anew() -> None:
    sealer = sealer_of(
        Vault({"SHOP_KEY": "hunter2"}), prepared({"key": {**SECRET, "env_var": "SHOP_KEY"}}, key="hunter2")
    )

    payload = written(sealer, started(key="hunter2"), StepSucceeded(0, 0, "Bearer hunter2", 1))

    begin, told = Vault({"SHOP_KEY": "rotated"}).opening().decode(payload)
    assert isinstance(begin, RunStarted)
    assert isinstance(told, StepSucceeded)
    assert (begin.variables, told.output) == ({"key": "rotated"}, "Bearer rotated")


def test_parts_of_json_in_the_environment_are_told_by_their_place() -> None:
    environ = {"SHOP": '{"user": "ada", "password": "hunter2", "pins": [4711, true]}'}
    schema = {"type": "object", "env_var": "SHOP", "properties": {"password": SECRET, "pins": {"is_secret": True}}}
    shop = json.loads(environ["SHOP"])
    vault = Vault(environ)
    sealer = sealer_of(vault, prepared({"shop": schema}, shop=shop))
    events: list[Event] = [started(shop=shop), StepSucceeded(0, 0, {"a": ["hunter2!", 4711, "4711", True, "ada"]}, 1)]

    payload = written(sealer, *events)

    assert b"hunter2" not in payload
    assert b'"a":[{"$sealed":{"text":[{"env":"SHOP","json":true,"path":["password"]},"!"]}},' in payload
    assert b'{"$sealed":{"env":"SHOP","json":true,"path":["pins",0]}},"4711",true,"ada"]' in payload
    assert encode_events(vault.opening().decode(payload)) == encode_events(events)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "the environment variable SHOP is not set"),
        ({"SHOP": "no json"}, "the environment variable SHOP no longer holds what it held"),
        ({"SHOP": '{"user": "ada"}'}, "the environment variable SHOP no longer holds what it held"),
    ],
)
def test_what_the_environment_does_not_hold_stays_a_reference_and_is_named(
    environ: dict[str, str], reason: str
) -> None:
    there = {"SHOP": '{"password": "hunter2"}'}
    schema = {"type": "object", "env_var": "SHOP", "is_secret": True}
    sealer = sealer_of(Vault(there), prepared({"shop": schema}, shop={"password": "hunter2"}))
    payload = written(sealer, StepSucceeded(0, 0, ["hunter2", f"a {'hunter2'}", {"hunter2": 1}, 7], 1))

    opening = Vault(environ).opening()
    (event,) = opening.decode(payload)

    assert opening.missing == reason
    assert isinstance(event, StepSucceeded)
    assert shown(event.output) == ["<sealed>", "a <sealed>", {"<sealed>": 1}, 7]
    with pytest.raises(SecretKeyError, match="SHOP"):
        opening.complete(event)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "its secrets are sealed, and STEPFLOW_SECRET_KEY is not set"),
        ({"STEPFLOW_SECRET_KEY": OTHER}, "its secrets are sealed with another key than STEPFLOW_SECRET_KEY holds"),
    ],
)
def test_without_the_right_key_nothing_is_opened_and_nothing_raised(environ: dict[str, str], reason: str) -> None:
    sealer = sealer_of(Vault({"STEPFLOW_SECRET_KEY": KEY}), prepared({"key": SECRET}, key="hunter2"))
    payload = written(sealer, started(key="hunter2", plain="p"))

    opening = Vault(environ).opening()
    (event,) = opening.decode(payload)

    assert opening.missing == reason
    assert isinstance(event, RunStarted)
    assert shown(event.variables) == {"key": "<sealed>", "plain": "p"}
    assert Vault({"STEPFLOW_SECRET_KEY": f"{OTHER},{KEY}"}).opening().decode(payload) == [
        started(key="hunter2", plain="p")
    ]


def test_the_secrets_of_an_input_are_looked_for_in_its_item_until_that_has_ended() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})
    sealer = sealer_of(vault, prepared(input={"pin": SECRET, "all": {"is_secret": True}}))
    inputs: list[Any] = [{"pin": "hunter2"}, {"pin": "hunter3", "all": {"k": [True, 7]}}, {"none": 1}]
    ends: list[Any] = [ItemEnded(index, Succeeded(["hunter2", "hunter3"]), 1) for index in range(3)]

    payload = written(sealer, ItemsAdmitted(0, inputs), *ends)
    results = sealer.ended([ItemResult(index, Succeeded(["hunter2", "hunter3"])) for index in range(3)])

    assert b'"k"' not in payload
    assert [shown(result.output) for result in results] == [
        ["<sealed>", "hunter3"],
        ["hunter2", "<sealed>"],
        ["hunter2", "hunter3"],
    ]
    assert vault.opening().decode(payload) == [ItemsAdmitted(0, inputs), *ends]
    assert vault.opening().result(results[0]).output == ["hunter2", "hunter3"]
    assert written(sealer, StepSucceeded(0, 0, "hunter2", 1)) == encode_events([StepSucceeded(0, 0, "hunter2", 1)])


def test_what_could_not_be_written_is_sealed_as_well_at_the_second_time() -> None:
    sealer = sealer_of(Vault({"STEPFLOW_SECRET_KEY": KEY}), prepared(input={"pin": SECRET}))
    events: list[Event] = [ItemsAdmitted(0, [{"pin": "hunter2"}]), ItemEnded(0, Succeeded("hunter2"), 1)]

    written(sealer, *events)
    again = written(sealer, *events)

    assert b"hunter2" not in again


def test_a_sealer_of_a_run_that_goes_on_learns_the_inputs_of_its_open_items() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})
    sealer = sealer_of(vault, prepared(input={"pin": SECRET}), is_sealed=True)

    sealer.learn(
        [
            ItemsAdmitted(0, [{"pin": f"hunter{number}"} for number in range(5)]),
            ItemEnded(0, Succeeded(1), 1),
            Checkpointed(2, [3], 5, 5, 3, 0, []),
        ]
    )

    told = [written(sealer, StepSucceeded(item, 0, f"hunter{item}", 1)) for item in range(5)]
    assert [b"hunter" in payload for payload in told] == [True, True, False, True, False]


@pytest.mark.parametrize(
    "value", [{"$sealed": {"env": "HOME"}}, {"$sealed": 1, "b": 2}, [{"$sealed": {"$sealed": "x"}}]]
)
def test_an_object_of_the_user_that_looks_like_a_reference_comes_back_as_it_was(value: Any) -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY, "HOME": "/"})
    sealer = sealer_of(vault, prepared({"key": SECRET}, key="hunter2"))
    events: list[Event] = [
        started(key="hunter2", other=value),
        ItemsAdmitted(0, [value]),
        StepSucceeded(0, 0, value, 1),
    ]

    opening = vault.opening()

    assert opening.decode(written(sealer, *events)) == events
    assert opening.missing is None


def test_short_secrets_are_sealed_as_values_of_their_own_and_where_they_are_marked() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})
    schemas = {"key": SECRET, "pin": {"is_secret": True}, "code": {"is_secret": True}, "flag": {"is_secret": True}}
    given: dict[str, Any] = {"key": "ok", "pin": 47, "code": 471100, "flag": True}
    sealer = sealer_of(vault, prepared(schemas, **given))
    events: list[Event] = [
        started(**given),
        StepSucceeded(0, 0, ["ok", "ok!", 47, 471100, 471100.0, "code 471100", "1471100", True], 1),
    ]

    payload = written(sealer, *events)

    begin, told = msgspec.json.decode(payload)
    assert [type(value) for value in begin[6].values()] == [dict] * 4
    assert shown(told[3]) == ["<sealed>", "ok!", 47, "<sealed>", 471100.0, "<sealed>", "1471100", True]
    assert encode_events(vault.opening().decode(payload)) == encode_events(events)


def test_what_a_sub_run_gets_from_its_parent_is_sealed_there_too() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY, "SHOP_KEY": "from-outside"})
    variables = {"key": SECRET, "flag": {"is_secret": True}, "env": {**SECRET, "env_var": "SHOP_KEY"}}
    given: dict[str, Any] = {"key": "hunter2", "flag": 1, "env": "from-outside"}
    parent = sealer_of(vault, prepared(variables, input={"pin": SECRET}, **given))
    parent.learn([ItemsAdmitted(0, [{"pin": "pin-of-0"}, {"pin": "pin-of-1"}])])

    child = sealer_of(vault, prepared(**given), parent=parent, item=1)
    payload = written(child, started(**given), ItemsAdmitted(0, ["pin-of-0", "pin-of-1", "hunter2", "from-outside"]))

    begin, inputs = msgspec.json.decode(payload)
    assert shown(begin[6]) == {"key": "<sealed>", "flag": "<sealed>", "env": "<sealed>"}
    assert begin[6]["env"] == {"$sealed": {"env": "SHOP_KEY"}}
    assert shown(inputs[2]) == ["pin-of-0", "<sealed>", "<sealed>", "<sealed>"]


def test_a_flow_without_secrets_needs_no_sealer() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})

    assert vault.sealer(prepared(key="x")) is None
    assert vault.sealer(prepared({"key": SECRET})) is None, "nothing was given"
    assert Vault({}).sealer(prepared({"key": SECRET}, input={"pin": SECRET}, key="x")) is None, "there is no key"
    assert vault.sealer(prepared({"key": SECRET}, key="x"), is_sealed=False) is None, "it was not sealed before"


def test_without_a_key_what_the_caller_passes_is_refused_and_both_remedies_are_named() -> None:
    flow = prepared({"key": SECRET, "env": {**SECRET, "env_var": "SHOP_KEY"}}, key="hunter2", env="from-outside")

    with pytest.raises(InputInvalidError) as caught:
        Vault({"SHOP_KEY": "from-outside"}).refuse(flow)

    assert str(caught.value) == (
        'error: variable "key" hold secrets, which this store would keep in clear (…); '
        'set STEPFLOW_SECRET_KEY to have them sealed, or allow it with secrets="plain"'
    ).replace(" (…)", "")
    with pytest.raises(InputInvalidError, match='"key" and variable "env" hold'):
        Vault({"SHOP_KEY": "another"}).refuse(flow)
    with pytest.raises(InputInvalidError, match="the input hold"):
        Vault({}).refuse(prepared(input={"pin": SECRET}))
    Vault({"STEPFLOW_SECRET_KEY": KEY}).refuse(flow)
    Vault({}, secrets="plain").refuse(flow)
    Vault({}).refuse(prepared({"key": SECRET}, other="x"))


def test_without_a_key_the_first_of_many_secrets_can_be_warned_of_instead(caplog: pytest.LogCaptureFixture) -> None:
    vault = Vault({}, secrets="warn")

    for value in ("hunter2", "hunter3"):
        vault.refuse(prepared({"key": SECRET}, key=value))

    (record,) = caplog.records
    assert 'SECRETS ARE STORED IN CLEAR from now on: variable "key"' in record.getMessage()
    assert "Set STEPFLOW_SECRET_KEY" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_where_plain_is_allowed_a_value_from_the_environment_is_stored_by_its_name_all_the_same() -> None:
    vault = Vault({"SHOP_KEY": "from-outside"}, secrets="plain")
    given = {"key": "hunter2", "env": "from-outside"}
    sealer = sealer_of(vault, prepared({"key": SECRET, "env": {**SECRET, "env_var": "SHOP_KEY"}}, **given))

    payload = written(sealer, started(**given), StepSucceeded(0, 0, "from-outside hunter2", 1))

    assert b"from-outside" not in payload
    assert payload.count(b"hunter2") == 2


def test_a_sub_run_is_refused_only_for_secrets_that_are_new_to_its_parent() -> None:
    vault = Vault({"SHOP_KEY": "from-outside"})
    parent = sealer_of(vault, prepared({"env": {**SECRET, "env_var": "SHOP_KEY"}}, env="from-outside"))
    child = prepared({"token": SECRET, "old": SECRET}, input={"pin": SECRET}, token="from-outside", old="x")

    vault.refuse_sub_run(child, {"token": "from-outside"}, [{"pin": "from-outside"}, {"pin": None}, {}], parent, 0)
    with pytest.raises(InputInvalidError, match='variable "token" and the input hold'):
        vault.refuse_sub_run(child, {"token": "new"}, [{"pin": "new"}], parent, 0)
    with pytest.raises(InputInvalidError, match="the input hold"):
        vault.refuse_sub_run(child, {}, [{"pin": "new"}], None, 0)


def test_values_are_sealed_as_deep_as_they_can_be_written() -> None:
    vault = Vault({"STEPFLOW_SECRET_KEY": KEY})
    sealer = sealer_of(vault, prepared({"key": SECRET}, key="hunter2"))
    value: Any = "hunter2"
    for _ in range(580):
        value = [value]

    payload = written(sealer, StepSucceeded(0, 0, value, 1))

    assert b"hunter2" not in payload
    assert vault.opening().decode(payload) == [StepSucceeded(0, 0, value, 1)]
    assert json.dumps(shown(msgspec.json.decode(payload)[0][3])) == json.dumps(value).replace("hunter2", "<sealed>")


def test_a_reference_that_makes_no_sense_is_left_alone_and_told() -> None:
    opening = Vault({"STEPFLOW_SECRET_KEY": KEY}).opening()
    odd: list[Any] = [{"$sealed": body} for body in (None, {"what": 1}, {"text": [1]}, {"object": [1]}, {"token": "x"})]

    assert opening.value(odd) == odd
    assert opening.missing is not None
    assert shown(odd)[0] == "<sealed>"


def test_events_without_secrets_are_written_as_they_are() -> None:
    sealer = sealer_of(Vault({"STEPFLOW_SECRET_KEY": KEY}), prepared({"key": SECRET}, key="hunter2"))
    events: list[Event] = [ItemsAdmitted(0, [{"a": [1, "b"]}]), StepSucceeded(0, 0, {"x": None}, 1), InputsClosed(1)]

    (row,) = sealer.seal([events])

    assert row[1] is events[1]
    assert row[2] is events[2]
    assert encode_events(row) == encode_events(events)
