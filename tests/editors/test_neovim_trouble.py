"""Neovim with the plugin when something goes wrong: late answers, crashes, missing parts.

The server is a stand-in that does as it is told, unless the real one can be made to do it.
"""

import sys
from pathlib import Path

import pytest
from editors.conftest import SERVER, STANDIN, Open
from editors.nvim import COMPLETION, Neovim

pytestmark = pytest.mark.editors

TELL = "vim.lsp.get_clients()[1]:notify(...)"
AT_ONCE = """
waits = {}
require("mercury.client").later = function(action, milliseconds)
  table.insert(waits, milliseconds)
  vim.schedule(action)
end
"""


async def asked(nvim: Neovim, times: int) -> None:
    """Wait for so many completion requests."""
    await nvim.until_told(
        lambda told: sum(rest[1:] == [COMPLETION, "pending"] for _, rest in told) >= times
    )


async def answer(nvim: Neovim, *texts: str) -> None:
    """Let the stand-in answer everything that it was ever asked, and Neovim act upon it."""
    await nvim.lua(TELL, "answer", {"texts": texts})
    await nvim.until_answered()


async def ready(nvim: Neovim) -> None:
    await nvim.until_told(lambda told: ("status", ["ready"]) in told)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text("total = \n", encoding="utf-8")
    return path


async def test_late_answers_never_show(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, '{"ready": true}')
    await ready(nvim)
    await nvim.keys("A")
    await asked(nvim, 1)
    await nvim.keys("1")
    await asked(nvim, 2)
    await nvim.keys("<Esc>")
    await nvim.until(lambda frame: "INSERT" not in frame.rows[-1])
    await answer(nvim, "late")
    await nvim.keys("A")
    await asked(nvim, 3)
    await nvim.keys(" +")
    await asked(nvim, 5)
    await answer(nvim, "late")
    assert nvim.frame.line == "total = 1 +late", "the newest is not late"
    assert {frame.line for frame in nvim.frames if frame.ghost} == {"total = 1 +late"}
