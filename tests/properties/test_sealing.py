"""Whatever is written around secrets, they are not in it, and it comes back as it was."""

import json
from typing import Any

import msgspec
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow.execution.events import StepSucceeded, encode_events
from stepflow.execution.sealing import Vault
from stepflow.execution.submission import Plans, prepare
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.read import read_flow
from stepflow.records import Json

ENVIRON = {"STEPFLOW_SECRET_KEY": Fernet.generate_key().decode()}
FLOW = read_flow(
    {
        "schemas": {
            "properties": {
                "variables": {
                    "properties": {
                        "caller": {"type": "string", "is_secret": True},
                        "outside": {"type": "string", "is_secret": True, "env_var": "OUTSIDE"},
                    }
                }
            }
        },
        "output": 1,
    }
)
SPELLINGS = (str, json.dumps, repr, lambda text: msgspec.json.encode(text).decode())
secrets = st.builds("".join, st.tuples(st.text("αβγ", min_size=3, max_size=3), st.text("δε\"'\\\n\x7fé ", min_size=3)))


def around(secret: str) -> st.SearchStrategy[str]:
    """Texts that hold a secret, in one of the ways in which programs write it."""
    text = st.text(st.sampled_from("xyz \"'\\\n1"), max_size=4)
    return st.builds(
        lambda before, spell, after: f"{before}{spell(secret)}{after}", text, st.sampled_from(SPELLINGS), text
    )


def values(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Json]:
    scalars = (
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    )
    keys = texts | st.just("$sealed") | st.text(max_size=3)
    return st.recursive(
        scalars | texts | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


@settings(max_examples=60)
@given(data=st.data(), caller=secrets, outside=secrets, has_key=st.booleans())
def test_no_secret_is_in_what_is_sealed_and_all_of_it_comes_back(
    data: st.DataObject, caller: str, outside: str, has_key: bool
) -> None:
    hidden = [caller, outside] if has_key else [outside]
    value = data.draw(values(st.one_of([around(secret) for secret in hidden])))
    environ = {**(ENVIRON if has_key else {}), "OUTSIDE": outside}
    vault = Vault(environ)
    given: dict[str, Any] = {"caller": caller, "outside": outside} if has_key else {"outside": outside}
    prepared = prepare(Plans(), FLOW, variables=given, overrides=None, settings=RetrySettings(), validation="off")
    sealer = vault.sealer(prepared)
    assert sealer is not None

    event = StepSucceeded(0, 0, value, 1)
    (row,) = sealer.seal([[event]])
    payload = encode_events(row)

    opening = vault.opening()
    assert encode_events(opening.decode(payload)) == encode_events([event])
    assert opening.missing is None
    for secret in hidden:
        for text in texts_of(msgspec.json.decode(payload)):
            assert all(spell(secret).strip("\"'") not in text for spell in SPELLINGS)


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, part in value.items() for text in (key, *texts_of(part))]
    if isinstance(value, list):
        return [text for part in value for text in texts_of(part)]
    return [value] if isinstance(value, str) else []
