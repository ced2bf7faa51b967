"""The names of stepflow.testing."""

import pytest

import stepflow.testing


@pytest.mark.parametrize("name", stepflow.testing.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(stepflow.testing, name).__name__ == name
    assert name in dir(stepflow.testing)


def test_any_other_name_is_told() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = stepflow.testing.nothing  # type: ignore[attr-defined]
