"""What drives VS Code: where its parts are, and how its scripts in `editors/vscode/test` start.

They are JavaScript, since Playwright and the extension are. Knows no test.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
EXTENSION = REPOSITORY / "editors" / "vscode"
HINT = "run editors/vscode/install-test-editor"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SERVER = """#!/bin/sh
export PYTHONPATH='{path}'
exec '{python}' -c 'from mercury_lsp.cli.main import main; main()' "$@"
"""


class Absent(Exception):
    """Something that is needed is not here; says what, and the way to it."""


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of the scripts, with this checkout's server. Raises Absent.

    The extension is MERCURY_VSIX, or else what is packaged from this checkout.
    """
    tools = _tools()
    extension = os.environ.get("MERCURY_VSIX", str(EXTENSION / "mercury-lsp.vsix"))
    if "MERCURY_VSIX" not in os.environ:
        run(["npm", "run", "package"], os.environ)
    server = folder / "mercury-lsp"
    path = os.pathsep.join(str(REPOSITORY / part) for part in (".", "model", "kernels"))
    server.write_text(SERVER.format(path=path, python=sys.executable), encoding="utf-8")
    server.chmod(0o755)
    return {**os.environ, **tools, "MERCURY_VSIX": extension, "MERCURY_SERVER": str(server)}


def run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a command says, run in the extension's folder; a failure has that in its words."""
    done = subprocess.run(
        command, cwd=EXTENSION, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _tools() -> dict[str, str]:
    """The editor and the browser, by the variables that name them."""
    if shutil.which("npm") is None:
        raise Absent("npm is not here; install Node.js 20 or later")
    found = {
        "MERCURY_CODE_SERVER": _program("MERCURY_CODE_SERVER", "code-server"),
        "MERCURY_CHROMIUM": _program("MERCURY_CHROMIUM", *CHROMIUM),
    }
    if not (EXTENSION / "node_modules" / "playwright-core").exists():
        raise Absent(f"the extension's packages are not here; {HINT}, or npm ci in editors/vscode")
    return found


def _program(variable: str, *names: str) -> str:
    """A program that the environment names, or that is on the PATH."""
    found = shutil.which(os.environ.get(variable) or "")
    for name in () if variable in os.environ else names:
        found = found or shutil.which(name)
    if found is None:
        raise Absent(f"{names[0]} is not here; {HINT}, or set {variable} to one")
    return found
