"""What the package promises as a whole: a light root, public names that are told, a manifest that keeps its word."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import stepflow

ROOT = Path(__file__).parents[1]
MANIFEST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = (
    "anyio",
    "click",
    "grpc",
    "jsonschema_rs",
    "msgspec",
    "psycopg",
    "pydantic",
    "pytest",
    "rich",
    "ruamel",
    "sqlite_utils",
    "trio",
)


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after this code, but for those it starts with."""
    program = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_root_loads_nothing_of_the_engine():
    loaded = loaded_after("import stepflow")

    assert loaded.isdisjoint(HEAVY)
    assert {name for name in loaded if name.startswith("stepflow")} == {"stepflow"}


def test_the_engine_loads_no_front_end_and_no_store_of_others():
    loaded = loaded_after("import stepflow; stepflow.Engine; stepflow.run; stepflow.Components()")

    assert loaded.isdisjoint({"click", "grpc", "jsonschema_rs", "psycopg", "pytest", "rich", "ruamel", "sqlite_utils"})


@pytest.mark.parametrize("name", stepflow.__all__)
def test_a_public_name_resolves_and_says_what_it_is(name):
    value = getattr(stepflow, name)

    if name != "Json":  # an alias, which can't carry a docstring
        assert (value.__doc__ or "").strip()


@pytest.mark.parametrize("name", [name for name in stepflow.__all__ if isinstance(getattr(stepflow, name), type)])
def test_the_methods_of_a_public_class_say_what_they_do(name):
    told = getattr(stepflow, name.removeprefix("Sync"))  # the blocking faces have the names of the async ones
    faces = (getattr(stepflow, name), told)

    members = [
        member
        for member, found in vars(faces[0]).items()
        if not member.startswith("_") and (callable(found) or isinstance(found, property))
    ]

    assert [member for member in members if not any(_docs(face, member) for face in faces)] == []


def _docs(face: type, member: str) -> str:
    return (getattr(getattr(face, member, None), "__doc__", None) or "").strip()


def test_the_public_names_are_sorted_and_are_those_that_load_on_first_use():
    assert stepflow.__all__ == sorted(stepflow.__all__)
    assert stepflow.__all__ == list(stepflow._HOMES)
    assert set(stepflow.__all__) <= set(dir(stepflow))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stepflow.nothing


@pytest.mark.parametrize("before", ["stepflow.Engine", "stepflow.run_batch", "import stepflow.execution.live"])
def test_run_is_the_function_whatever_was_imported_before(before):
    code = f"import stepflow; {before}\nassert stepflow.run({{'output': {{'$input': 'n'}}}}, {{'n': 7}}) == 7"

    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def test_the_version_is_that_of_the_manifest():
    assert stepflow.__version__ == MANIFEST["project"]["version"]


def test_the_manifest_has_the_extras():
    extras = {"grpc", "postgres", "mcp", "otel", "test", "all", "dev"}

    assert MANIFEST["project"]["name"] == "stepflow-engine"
    assert extras <= set(MANIFEST["project"]["optional-dependencies"])


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Every text file that git keeps, as it stands."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if listed.returncode != 0:
        pytest.skip("not a clone")
    for name in listed.stdout.decode().split("\0"):
        file = ROOT / name
        if not name or not file.is_file():
            continue
        try:
            yield name, file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def lines_with(pattern: str) -> list[str]:
    found = re.compile(pattern)
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if found.search(line)
    ]


def test_nothing_tells_anybody_to_install_a_stranger():
    assert lines_with(r"pip3? install ['\"]?stepflow(?!-engine)(?![\w*?(])") == []


@pytest.mark.parametrize("place", ["work", "root", "home", "Users"])
def test_nothing_holds_a_path_of_somebodys_machine(place):
    assert lines_with(rf"(?<![\w.~$}}<{{/])/{place}/[\w.-]+") == []


def test_nothing_holds_the_address_of_a_package_index():
    assert lines_with(r"https?://[\w.:@-]+/[\w/.+-]*simpl[e]\b|\bindex[-_]ur[l]\b|files\.pythonhoste[d]") == []
