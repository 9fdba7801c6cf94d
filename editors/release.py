"""Build every released file, and try each one as a user would.

`python editors/release.py` leaves in `dist/` a wheel, an sdist, the VS Code extension and the
Neovim plugin. It needs the `dev` extra, npm, mini's weights, and the editors that `pytest -m
editors` drives. A file that could not be tried is reported, and fails the release without
`--untried`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from mercury_lsp import __version__

ROOT = Path(__file__).parents[1]
EDITORS = ROOT / "editors"
DIST = ROOT / "dist"
PLUGIN = f"mercury.nvim-{__version__}"
EXAMPLE = "import math\n\n\ndef area(radius):\n    return math."


class Untried(Exception):
    """A file was built, but the program that would try it is not installed."""


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--untried", action="store_true", help="accept untried files")
    given = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    build()
    untried = []
    with tempfile.TemporaryDirectory() as folder:
        for file, attempt in attempts():
            try:
                attempt(file, Path(folder))
                said = "works"
            except Untried as reason:
                untried.append(file.name)
                said = f"NOT TRIED: {reason}"
            size = file.stat().st_size / 1e6
            sys.stdout.write(f"{file.relative_to(ROOT)}  {size:.1f} MB  {said}\n")
    if untried and not given.untried:
        names = ", ".join(untried)
        raise SystemExit(f"Not tried: {names}. Install what is missing or pass --untried.")


def build() -> None:
    """Build all files."""
    run([sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)])
    extension = EDITORS / "vscode"
    run(["npm", "ci", "--no-audit", "--no-fund"], cwd=extension)
    run(["npm", "run", "package"], cwd=extension)
    shutil.copy(extension / "mercury-lsp.vsix", DIST / f"mercury-lsp-{__version__}.vsix")
    with tarfile.open(DIST / f"{PLUGIN}.tar.gz", "w:gz") as archive:
        archive.add(ROOT / "LICENSE", f"{PLUGIN}/LICENSE")
        for part in ("doc", "lua", "plugin"):
            archive.add(EDITORS / "neovim" / part, f"{PLUGIN}/{part}")


def attempts() -> list[tuple[Path, Callable[[Path, Path], None]]]:
    """Each file and the function that tries it in a temporary folder."""
    kinds: dict[str, Callable[[Path, Path], None]] = {
        f"mercury_lsp-{__version__}-py3-none-any.whl": try_package,
        f"mercury_lsp-{__version__}.tar.gz": try_package,
        f"mercury-lsp-{__version__}.vsix": try_extension,
        f"{PLUGIN}.tar.gz": try_plugin,
    }
    return [(DIST / name, attempt) for name, attempt in kinds.items()]


def try_package(file: Path, folder: Path) -> None:
    """Install a package in a new virtual environment, and complete code with its tiny model."""
    home = folder / f"{file.name}.home"
    home.mkdir()
    run([sys.executable, "-m", "venv", str(home / "venv")])
    programs = home / "venv" / "bin"
    constraints = str(ROOT / "constraints.txt")
    run([str(programs / "pip"), "install", "-q", "-c", constraints, str(file)], cwd=home)
    (home / "circle.py").write_text(EXAMPLE, "utf-8")
    own = {**os.environ, "HOME": str(home), "MERCURY_CACHE": str(home / "cache")}
    server = str(programs / "mercury-lsp")
    said = run([server, "--version"], cwd=home, environment=own)
    if said.split() != ["mercury-lsp", __version__]:
        raise SystemExit(f"{file.name} says that it is {said.strip()}.")
    if not run([server, "complete", "circle.py:5", "--model", "tiny"], home, own).strip():
        raise SystemExit(f"{file.name} completes nothing.")


def try_extension(file: Path, folder: Path) -> None:
    """Run the VS Code tests with this file."""
    suite("test_vscode.py", {"MERCURY_VSIX": str(file)}, folder)


def try_plugin(file: Path, folder: Path) -> None:
    """Run the Neovim tests with the plugin of this archive."""
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")
    suite("test_neovim.py", {"MERCURY_PLUGIN": str(folder / PLUGIN)}, folder)


def suite(name: str, variables: Mapping[str, str], folder: Path) -> None:
    """Run a test file. Raises Untried if a test was skipped."""
    report = folder / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "editors", f"--junitxml={report}"]
    environment = {**os.environ, **variables}
    run([*command, str(ROOT / "tests" / "editors" / name)], ROOT, environment)
    skipped = {found.get("message", "") for found in ElementTree.parse(report).iter("skipped")}
    if skipped:
        raise Untried("; ".join(sorted(skipped)))


def run(
    command: Sequence[str], cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """The output of a command. A failing command ends the release with its output."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
