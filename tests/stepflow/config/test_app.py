import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepflow.components import Components
from stepflow.config.app import load_registry
from stepflow.errors import PluginUnavailableError

REGISTRY = "import stepflow\nclass inner:\n    app = stepflow.Components()\napp = inner.app\nnumber = 7\n"


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("registry_here", "broken_here", "needs_here"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("attribute", ["app", "inner.app"])
def test_a_registry_is_found_by_module_and_attribute(tmp_path: Path, attribute: str) -> None:
    (tmp_path / "registry_here.py").write_text(REGISTRY)

    assert isinstance(load_registry(f"registry_here:{attribute}", tmp_path), Components)


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("registry_here", 'write "module:registry"'),
        ("nowhere_at_all:app", 'there is no module "nowhere_at_all"'),
        ("registry_here:other", "has no other"),
        ("registry_here:number", "is a int, and has to be a stepflow.Components"),
        ("broken_here:app", "can't be imported: ZeroDivisionError"),
        ("needs_here:app", "can't be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_what_is_no_registry_says_why(tmp_path: Path, app: str, message: str) -> None:
    (tmp_path / "registry_here.py").write_text(REGISTRY)
    (tmp_path / "broken_here.py").write_text("1 / 0\n")
    (tmp_path / "needs_here.py").write_text("import nowhere_at_all\n")

    with pytest.raises(PluginUnavailableError) as raised:
        load_registry(app, tmp_path)

    assert message in str(raised.value)


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "registry_here.py").write_text(REGISTRY)
    load_registry("registry_here:app", tmp_path / "one")

    with pytest.raises(PluginUnavailableError, match="give one of them another name"):
        load_registry("registry_here:app", tmp_path / "two")
    assert load_registry("registry_here:app", tmp_path / "one")
