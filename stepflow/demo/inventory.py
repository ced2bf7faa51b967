"""Which Python source this interpreter can import, and which package each file belongs to."""

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import msgspec

STANDARD_LIBRARY = "standard library"
SITES = {"site-packages", "dist-packages"}
QUICK_FILES = 300


class Source(msgspec.Struct, frozen=True):
    """A source file: the input of one item of `module.yaml`."""

    path: str
    file: str  # the path below its root, with forward slashes: the same on every machine
    package: str


class Inventory(msgspec.Struct, frozen=True):
    """What there is to audit, in an order that depends on nothing but the files' names."""

    sources: tuple[Source, ...]
    python: str

    @property
    def packages(self) -> int:
        """How many installed packages the files belong to; the standard library is none."""
        return len({source.package for source in self.sources} - {STANDARD_LIBRARY})


def take_inventory(roots: Sequence[Path] | None = None, *, quick: bool = False) -> Inventory:
    """Every source file below the roots; by default, everything that is installed for this interpreter.

    `quick` takes a few hundred of them, evenly spread.
    """
    found = list(_sources(installed_roots() if roots is None else roots))
    if quick and len(found) > QUICK_FILES:
        found = [found[place * len(found) // QUICK_FILES] for place in range(QUICK_FILES)]
    return Inventory(tuple(found), platform.python_version())


def installed_roots() -> list[Path]:
    """The standard library, then the site directories of `sys.path`; programs and checkouts are left out."""
    sites = [Path(entry) for entry in sys.path if Path(entry).name in SITES]
    roots = [root.resolve() for root in (Path(sysconfig.get_path("stdlib")), *sites)]
    return [root for root in dict.fromkeys(roots) if root.is_dir()]


def _sources(roots: Iterable[Path]) -> Iterator[Source]:
    owners = packages_distributions()
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    seen: set[str] = set()
    for root in roots:
        for path in _python_files(root, seen):
            file = path.relative_to(root).as_posix()
            yield Source(str(path), file, STANDARD_LIBRARY if root == standard else _owner(file, owners))


def _python_files(root: Path, seen: set[str]) -> Iterator[Path]:
    """Importable files below a root, sorted, without those that an earlier root held; links are not followed."""
    for folder, inner, files in os.walk(root):
        if folder in seen:
            inner.clear()
            continue
        seen.add(folder)
        inner[:] = sorted(name for name in inner if name.isidentifier() and name != "__pycache__")
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and not path.is_symlink():
                yield path


def _owner(file: str, owners: Mapping[str, Sequence[str]]) -> str:
    """The distribution that brought a file, or the name it is imported by where no distribution claims it."""
    top = file.split("/")[0].removesuffix(".py")
    return owners[top][0] if top in owners else top
