"""Whatever a configuration holds, it is read or refused with its problems, and the environment stays hidden."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stepflow.config.read import load_config
from stepflow.errors import ConfigError
from stepflow.flow.path import parse_path
from stepflow.routing.router import Resolved, Router, Unknown, Unroutable
from stepflow.routing.table import parse_routes

SECRET = "correct horse battery"
WORDS = st.sampled_from(
    [
        *("plugins", "routes", "workingDirectory", "storageConfig", "leaseManager", "recovery", "blobApi", "retry"),
        *("type", "builtin", "grpc", "mcp", "nats", "mock", "python", "app", "queueName", "command", "args", "env"),
        *("plugin", "conditions", "path", "value", "componentAllow", "componentDeny", "component", "params"),
        *(
            "components",
            "behaviors",
            "metadata",
            "journal",
            "blobs",
            "sqlite",
            "filesystem",
            "databaseUrl",
            "sqlite:x",
            "backoff",
            "factor",
        ),
        *("/", "/a", "/a/", "/a/b", "/{*c}", "/{x}/y", "/{{", "${S}", "${T:-x}", "${", "{component}", "$.a[0]", "$["),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
RULES = st.lists(st.dictionaries(WORDS, JSON, max_size=4) | st.just({"plugin": "p"}), max_size=3)
CONFIGS = st.fixed_dictionaries(
    {"plugins": JSON | st.just({"p": {"type": "builtin"}}), "routes": JSON | st.dictionaries(WORDS, RULES, max_size=3)},
    optional=dict.fromkeys(
        ("workingDirectory", "storageConfig", "leaseManager", "recovery", "blobApi", "retry", "x"), JSON
    ),
)


@given(CONFIGS | st.dictionaries(WORDS, JSON, max_size=5))
def test_any_object_is_read_or_refused(value: dict[str, Any]) -> None:
    try:
        problems = load_config(value, environ={"S": SECRET}).warnings
    except ConfigError as error:
        problems = error.problems
        assert any(problem.level == "error" for problem in problems)

    for problem in problems:
        assert SECRET not in str(problem)
        assert parse_path(problem.path) is not None


@given(st.dictionaries(WORDS, RULES, max_size=4), st.text(alphabet="/abxc{}*", max_size=8), JSON)
def test_whatever_routes_are_accepted_resolve_any_path(routes: dict[str, Any], path: str, input: Any) -> None:
    try:
        table = parse_routes(routes, ["p"])
    except ConfigError:
        return

    unknown = Router(table, lambda plugin, params: None).resolve(path, input)
    known = Router(table, lambda plugin, params: ()).resolve(path, input)

    assert isinstance(unknown, Resolved | Unknown | Unroutable)
    assert isinstance(known, Unroutable)
