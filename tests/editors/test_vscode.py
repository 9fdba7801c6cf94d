"""The extension in a real VS Code: starts the suites of `editors/vscode/test`, one after the other.

They are JavaScript, since Playwright and the extension are; what they look at is said there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.editors

REPOSITORY = Path(__file__).parents[2]
EXTENSION = REPOSITORY / "editors" / "vscode"
HINT = "run editors/vscode/install-test-editor"
SERVER = """#!/bin/sh
export PYTHONPATH='{path}'
exec '{python}' -c 'from mercury_lsp.cli import main; main()' "$@"
"""


def program(variable: str, *names: str) -> str:
    """A program that the environment names, or that is on the PATH."""
    found = shutil.which(os.environ.get(variable) or "")
    for name in () if variable in os.environ else names:
        found = found or shutil.which(name)
    if found is None:
        pytest.skip(f"{names[0]} is not here; {HINT}, or set {variable} to one")
    return found


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """The editor and the browser, by the variables that name them."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not here; install Node.js 20 or later")
    found = {
        "MERCURY_CODE_SERVER": program("MERCURY_CODE_SERVER", "code-server"),
        "MERCURY_CHROMIUM": program(
            "MERCURY_CHROMIUM", "chromium", "chromium-browser", "google-chrome"
        ),
    }
    if not (EXTENSION / "node_modules" / "playwright-core").exists():
        pytest.skip(f"the extension's packages are not here; {HINT}, or npm ci in editors/vscode")
    return found


@pytest.fixture(scope="session")
def surroundings(tools: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the suites, with this checkout's server.

    The extension is MERCURY_VSIX, or else what is packaged from this checkout.
    """
    folder = tmp_path_factory.mktemp("vscode")
    extension = os.environ.get("MERCURY_VSIX", str(EXTENSION / "mercury-lsp.vsix"))
    if "MERCURY_VSIX" not in os.environ:
        run(["npm", "run", "package"], os.environ)
    server = folder / "mercury-lsp"
    path = os.pathsep.join(str(REPOSITORY / part) for part in (".", "model", "kernels"))
    server.write_text(SERVER.format(path=path, python=sys.executable), encoding="utf-8")
    server.chmod(0o755)
    return {
        **os.environ,
        **tools,
        "MERCURY_VSIX": extension,
        "MERCURY_SERVER": str(server),
    }


def run(command: list[str], environment: "os._Environ[str] | dict[str, str]") -> None:
    """Run a command in the extension's folder; what it said is in the failure."""
    done = subprocess.run(
        command, cwd=EXTENSION, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def suite(name: str, surroundings: dict[str, str]) -> None:
    """Run one file of tests."""
    run(["node", "--test", "--test-reporter=spec", f"test/{name}.test.mjs"], surroundings)


@pytest.mark.mini
def test_the_extension_with_the_real_server_and_mini(
    cache_dir: Path, surroundings: dict[str, str]
) -> None:
    suite("model", {**surroundings, "MERCURY_CACHE": str(cache_dir)})


def test_the_extension_when_something_goes_wrong(surroundings: dict[str, str]) -> None:
    suite("trouble", surroundings)
