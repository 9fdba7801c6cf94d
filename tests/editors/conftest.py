"""Where the editors are, and how a test opens a file in one."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from editors.nvim import Neovim, editing

from editors import vscode

ABSENT = (
    "Neovim 0.10 or later is not here; run editors/install-test-editors, or set MERCURY_NVIM to one"
)
SERVER = [sys.executable, "-m", "mercury_lsp", "--stdio"]
STANDIN = [sys.executable, str(Path(__file__).parent / "standin_server.py")]

Open = Callable[..., Awaitable[Neovim]]
"""`await open(path, …)` is `editing(path, …)` up to the end of the test."""


@pytest.fixture(scope="session")
def nvim_binary() -> str:
    """The Neovim to test with."""
    found = shutil.which(os.environ.get("MERCURY_NVIM") or "nvim")
    if found is None:
        pytest.skip(ABSENT)
    return found


@pytest.fixture
async def edit(nvim_binary: str, cache_dir: Path) -> AsyncIterator[Open]:
    """Opens a file in a Neovim with the real server and mini, which has all the time it needs."""
    settings = {
        "deadlineMs": 60_000,
        "invokedDeadlineMs": 60_000,
        "minConfidence": 0,
        "distraction": 0,
    }
    async with AsyncExitStack() as stack:

        async def open_(path: Path, **others: str) -> Neovim:
            options = {"cmd": SERVER, "settings": settings}
            # Neovim has a cache folder of its own here, in which there are no weights.
            weights = {"MERCURY_CACHE": str(cache_dir)}
            return await stack.enter_async_context(
                editing(nvim_binary, path, options, environment=weights, **others)
            )

        yield open_


@pytest.fixture
async def edit_with(nvim_binary: str) -> AsyncIterator[Open]:
    """Opens a file in a Neovim with the server that is named, in an environment of its own."""
    async with AsyncExitStack() as stack:

        async def open_(
            path: Path,
            *cmd: str,
            extra: str = "",
            settings: Mapping[str, object] | None = None,
            **environment: str,
        ) -> Neovim:
            options = {"cmd": cmd, "settings": settings or {}}
            return await stack.enter_async_context(
                editing(nvim_binary, path, options, extra=extra, environment=environment)
            )

        yield open_


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of what drives VS Code."""
    try:
        return vscode.surroundings(tmp_path_factory.mktemp("vscode"))
    except vscode.Absent as reason:
        pytest.skip(str(reason))


@pytest.fixture
def circle(tmp_path: Path) -> Path:
    """A file with a gap at its end that any model of code can fill."""
    path = tmp_path / "circle.py"
    path.write_text("import math\n\n\ndef area(radius):\n    return math.\n", encoding="utf-8")
    return path
