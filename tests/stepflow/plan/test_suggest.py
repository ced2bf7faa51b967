"""Names that were probably meant."""

import pytest

from stepflow.plan.suggest import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("cuont", ["shout", "count"], "count"),
        ("COUNT", ["account", "count"], "count"),
        ("xyz", ["count"], None),
        ("count", [], None),
        ("", ["a"], None),
    ],
)
def test_the_nearest_name_is_suggested(name: str, known: list[str], meant: str | None) -> None:
    assert did_you_mean(name, known) == meant
