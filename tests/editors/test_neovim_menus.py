"""Ghost text and the completion menus of Neovim, blink.cmp and nvim-cmp, all of them real.

The two plugins are where MERCURY_BLINK_CMP and MERCURY_NVIM_CMP say: each names a checkout.
"""

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from editors.conftest import STANDIN, Open
from editors.nvim import Neovim
from editors.screen import Frame
from editors.test_neovim_trouble import answer, asked, ready

pytestmark = pytest.mark.editors

BLINK = """
vim.opt.runtimepath:append(%s)
require("blink.cmp").setup {
  fuzzy = { implementation = "lua" },
  sources = { default = { "buffer" } },
}
"""
CMP = """
vim.opt.runtimepath:append(%s)
local cmp = require("cmp")
cmp.register_source("words", {
  complete = function(_, _, callback)
    callback({ { label = "total" }, { label = "totals" } })
  end,
})
cmp.setup {
  sources = { { name = "words" } },
  mapping = cmp.mapping.preset.insert { ["<C-e>"] = cmp.mapping.abort() },
}
"""


@dataclass(frozen=True, slots=True)
class Menu:
    """Where a menu comes from, if not from Neovim, and the keys behind `total = ` that open it."""

    name: str
    keys: str
    variable: str = ""
    setup: str = ""


MENUS = (
    Menu("Neovim", "t<C-n>"),
    Menu("blink.cmp", "t", "MERCURY_BLINK_CMP", BLINK),
    Menu("nvim-cmp", "t", "MERCURY_NVIM_CMP", CMP),
)
Offer = Callable[[], Awaitable[Neovim]]
"""Opens Neovim, with ghost text behind the cursor."""


@pytest.fixture(params=MENUS, ids=lambda menu: menu.name)
def menu(request: pytest.FixtureRequest) -> Menu:
    found: Menu = request.param
    if found.variable not in ("", *os.environ):
        pytest.skip(f"{found.name} is not here; set {found.variable} to a checkout of it")
    return found


@pytest.fixture
def offer(edit_with: Open, tmp_path: Path, menu: Menu) -> Offer:
    async def open_() -> Neovim:
        script = tmp_path / "script.py"
        script.write_text("totals = total = \n", encoding="utf-8")
        extra = menu.setup and menu.setup % json.dumps(os.environ[menu.variable])
        nvim = await edit_with(script, *STANDIN, "ready", extra=extra)
        await ready(nvim)
        await nvim.keys("A")
        await asked(nvim, 1)
        await answer(nvim, "total_of(values)")
        assert nvim.frame.ghost == "total_of(values)"
        return nvim

    return open_


def has_menu(frame: Frame) -> bool:
    """Whether the words that complete `t` are listed below it."""
    return any("totals" in row for row in frame.rows[1:])


async def test_a_menu_and_ghost_text_never_stand_together(offer: Offer, menu: Menu) -> None:
    nvim = await offer()
    await nvim.keys(menu.keys)
    await nvim.until(has_menu)
    await answer(nvim, "otal_of(values)")
    assert has_menu(nvim.frame)
    assert not [frame for frame in nvim.frames if has_menu(frame) and frame.ghost]


async def test_ghost_text_is_back_when_the_menu_is_closed(offer: Offer, menu: Menu) -> None:
    nvim = await offer()
    await nvim.keys(menu.keys)
    await nvim.until(has_menu)
    await answer(nvim, "otal_of(values)")
    told = len(nvim.told)
    await nvim.keys("<C-e>")
    await nvim.until(lambda frame: not has_menu(frame))
    await nvim.until_told(lambda all_: any(what == "request" for what, _ in all_[told:]))
    await answer(nvim, "otal_of(values)")
    assert nvim.frame.line == "totals = total = total_of(values)"
    assert nvim.frame.ghost == "otal_of(values)"


async def test_ghost_text_stands_beside_a_menu_on_request(offer: Offer, menu: Menu) -> None:
    nvim = await offer()
    await nvim.lua("require('mercury.config').options.with_menu = true")
    await nvim.keys(menu.keys)
    await nvim.until(has_menu)
    await answer(nvim, "_of(values)")
    assert has_menu(nvim.frame)
    assert nvim.frame.ghost == "_of(values)"
