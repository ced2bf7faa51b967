"""The fast tier under the lowest version of every dependency that pyproject.toml allows: `make test-lowest`."""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def lowest(path: Path) -> dict[str, str]:
    """The lowest version of each dependency, of extras too, by its name; of two bounds on one name the higher."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]
    bounds: dict[str, str] = {}
    for requirement in requirements:
        for part in requirement.specifier:
            if part.operator in (">=", "=="):
                known = bounds.get(requirement.name, "0")
                bounds[requirement.name] = max(known, part.version, key=Version)
    return bounds


def main(arguments: list[str]) -> int:
    """Returns: pytest's exit code, or pip's where it could not install."""
    with tempfile.TemporaryDirectory(prefix="lowest-") as folder:
        constraints = Path(folder, "constraints.txt")
        pins = lowest(ROOT / "pyproject.toml")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()), encoding="utf-8")
        venv.create(Path(folder, "venv"), with_pip=True)
        python = str(Path(folder, "venv", "Scripts" if sys.platform == "win32" else "bin", "python"))

        install = [python, "-m", "pip", "install", "-q", "-c", str(constraints), "-e", f"{ROOT}[dev]"]
        failed = subprocess.run(install, cwd=ROOT, check=False).returncode
        if failed:
            return failed
        for used in (["-VV"], ["-m", "pip", "list", "--exclude-editable"]):
            subprocess.run([python, *used], cwd=ROOT, check=False)
        return subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
