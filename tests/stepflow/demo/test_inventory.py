from pathlib import Path

from stepflow.demo.inventory import QUICK_FILES, STANDARD_LIBRARY, take_inventory


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")


def test_files_come_sorted_with_the_package_they_belong_to(tmp_path: Path) -> None:
    write(tmp_path, "b/z.py", "b/a/one.py", "a.py", "b/data.txt", "b/__pycache__/z.py", "b/not-a-package/x.py")

    found = take_inventory([tmp_path])

    assert [(source.file, source.package) for source in found.sources] == [
        ("a.py", "a"),
        ("b/z.py", "b"),
        ("b/a/one.py", "b"),
    ]
    assert found.packages == 2


def test_links_and_roots_inside_roots_are_taken_once(tmp_path: Path) -> None:
    write(tmp_path, "lib/site/c.py", "lib/d.py")
    (tmp_path / "lib" / "link.py").symlink_to(tmp_path / "lib" / "d.py")
    (tmp_path / "lib" / "folder").symlink_to(tmp_path / "lib" / "site")

    found = take_inventory([tmp_path / "lib", tmp_path / "lib" / "site"])

    assert [source.file for source in found.sources] == ["d.py", "site/c.py"]


def test_quick_takes_files_from_everywhere(tmp_path: Path) -> None:
    write(tmp_path, *(f"m{number:04}.py" for number in range(2 * QUICK_FILES)))

    found = take_inventory([tmp_path], quick=True)

    assert [source.file for source in found.sources] == [f"m{number:04}.py" for number in range(0, 2 * QUICK_FILES, 2)]


def test_the_standard_library_and_what_is_installed_are_found() -> None:
    found = {source.package: source for source in take_inventory().sources}

    assert STANDARD_LIBRARY in found
    assert "msgspec" in found


def test_two_inventories_are_equal() -> None:
    assert take_inventory(quick=True) == take_inventory(quick=True)
