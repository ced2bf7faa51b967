import os

import pytest

from stepflow.errors import InvalidInputError, ResourceUnavailableError
from stepflow.plugins.builtin.load_file import load
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "root"
    place.mkdir()
    return place.resolve()


@pytest.mark.anyio
async def test_a_file_comes_with_its_place_size_and_format(host, task, root):
    (root / "a.json").write_bytes(b'{"n": 1}')

    outcome = await BuiltinPlugin(load_roots=[root]).perform(task("/load_file", {"path": "a.json"}), host)

    metadata = {"resolved_path": str(root / "a.json"), "size_bytes": 8, "format": "json"}
    assert outcome == Succeeded({"data": {"n": 1}, "metadata": metadata})


@pytest.mark.parametrize(
    ("name", "format", "content", "data"),
    [
        ("a.JSON", None, b'\xef\xbb\xbf{"n": 1.0}', {"n": 1.0}),
        ("a.yaml", None, b"on: yes\nn: 0x1F\n1: a\n", {"on": "yes", "n": 31, "1": "a"}),
        ("a.yml", None, b"", None),
        ("a.txt", None, "\ufeffgrün".encode(), "grün"),
        ("Makefile", None, b"all:\n", "all:\n"),
        ("a.json", "text", b"{", "{"),
        ("a.txt", "yaml", b"[1, 2]", [1, 2]),
        ("a.txt", "json", b"[1, 2]", [1, 2]),
    ],
)
def test_the_format_is_the_one_given_or_that_of_the_extension(root, name, format, content, data):
    (root / name).write_bytes(content)

    assert load(name, format, [root])["data"] == data


def test_a_relative_path_is_looked_for_in_each_root(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("here")

    assert load("a.txt", None, [root, other])["data"] == "here"
    assert load(str(other / "a.txt"), None, [root, other])["data"] == "here"


@pytest.mark.parametrize(
    "path", ["../secret.txt", "{tmp}/secret.txt", "link.txt", "linked/secret.txt", "../root-2/a.txt", "/", "../none"]
)
def test_a_path_that_leaves_the_roots_is_refused(root, tmp_path, path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "a.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "linked").symlink_to(tmp_path)

    with pytest.raises(InvalidInputError, match="outside the allowed directories"):
        load(path.format(tmp=tmp_path), None, [root])


def test_a_link_that_stays_below_the_root_is_followed(root):
    (root / "a.txt").write_text("here")
    (root / "link.txt").symlink_to(root / "a.txt")

    assert load("link.txt", None, [root])["metadata"]["resolved_path"] == str(root / "a.txt")


def test_a_root_that_is_itself_a_link_is_followed(root, tmp_path):
    (root / "a.txt").write_text("here")
    link = tmp_path / "link"
    link.symlink_to(root)

    assert load("a.txt", None, [link])["data"] == "here"


def test_a_missing_file_is_an_unavailable_resource(root):
    with pytest.raises(ResourceUnavailableError, match=r"there is no file 'none\.txt'"):
        load("none.txt", None, [root])


@pytest.mark.parametrize("path", ["loop", "a" * 5000])
def test_a_path_that_leads_nowhere_is_refused(root, path):
    (root / "loop").symlink_to(root / "loop")

    with pytest.raises((InvalidInputError, ResourceUnavailableError)):
        load(path, None, [root])


@pytest.mark.parametrize("path", ["", ".", "pipe", "a\0b", "\ud800"])
def test_what_is_no_regular_file_is_refused_without_waiting(root, path):
    os.mkfifo(root / "pipe")

    with pytest.raises(InvalidInputError, match=r"\$\.path"):
        load(path, None, [root])


def test_a_file_beyond_the_limit_is_refused(root):
    (root / "a.txt").write_bytes(b"12345")

    assert load("a.txt", None, [root], max_bytes=5)["data"] == "12345"
    with pytest.raises(InvalidInputError, match="larger than the 4 bytes"):
        load("a.txt", None, [root], max_bytes=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", b"{"), ("a.json", b"\xff"), ("a.json", b"[NaN]"), ("a.yaml", b"a: ["), ("a.txt", b"\xff")],
)
def test_content_that_does_not_fit_the_format_is_refused_by_name(root, name, content):
    (root / name).write_bytes(content)

    with pytest.raises(InvalidInputError, match=name):
        load(name, None, [root])


@pytest.mark.anyio
async def test_without_roots_every_path_is_refused_with_the_remedy(host, task):
    outcome = await BuiltinPlugin().perform(task("/load_file", {"path": "a.json"}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert "load_roots" in outcome.message
