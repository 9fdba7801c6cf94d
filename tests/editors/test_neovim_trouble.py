"""Neovim with the plugin when something goes wrong: late answers, crashes, missing parts.

The server is a stand-in that does as it is told, unless the real one can be made to do it.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from editors.conftest import SERVER, STANDIN, Open
from editors.nvim import COMPLETION, Neovim
from hostile import PATHS, Hostile

pytestmark = pytest.mark.editors

README = Path(__file__).parents[2] / "README.md"
SCRIPT = str(Path(sys.executable).with_name("mercury-lsp"))
"""The program as it is installed, which heeds the environment."""

HEEDED = "vim.g.loaded_python3_provider = 0; vim.env.PYTHONPATH = {}\n"
"""Set in Neovim, since what starts it may be Python, too. Neovim itself would look for a Python
of its own, which heeds the variable as well."""

TELL = """
local client = vim.lsp.get_clients()[1]
if vim.fn.has("nvim-0.11") == 1 then
  client:notify(...)
else
  client.notify(...)
end
"""
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


async def crash(nvim: Neovim) -> None:
    """Kill the stand-in; Neovim tells of it, and waits for a key."""
    seen = len(nvim.frames)
    await nvim.lua(TELL, "crash", {})
    await nvim.until(lambda frame: len(nvim.frames) > seen and "Press ENTER" in frame.text)
    await nvim.keys("<CR>")


async def dismissed(nvim: Neovim, text: str) -> None:
    """Wait for a message of Neovim's own, and press the key that it waits for.

    The next message may be there at once, and wait for a key as well.
    """
    await nvim.until(lambda frame: text in frame.text and "Press ENTER" in frame.text)
    seen = len(nvim.frames)
    await nvim.keys("<CR>")
    await nvim.until(lambda frame: len(nvim.frames) > seen)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text("total = \n", encoding="utf-8")
    return path


async def test_late_answers_never_show(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, "ready")
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
    await nvim.keys("+")
    await asked(nvim, 4)
    await answer(nvim, "late")
    assert nvim.frame.line == "total = 1+late", "the newest is not late"
    assert {frame.line for frame in nvim.frames if frame.ghost} == {"total = 1+late"}


async def test_an_answer_for_another_buffer_shows_nowhere(edit_with: Open, script: Path) -> None:
    other = script.with_name("other.txt")  # where nothing is asked
    other.write_text("count = \n", encoding="utf-8")
    nvim = await edit_with(script, *STANDIN, "ready")
    await ready(nvim)
    await nvim.keys("A")
    await asked(nvim, 1)
    await nvim.keys(f"<Cmd>edit {other.name}<CR>")
    await nvim.until(lambda frame: frame.rows[0] == "count =")
    await answer(nvim, "late")
    await nvim.keys("<Cmd>buffer #<CR>")
    await nvim.until(lambda frame: frame.rows[0] == "total =")
    await nvim.redrawn()
    assert {frame.ghost for frame in nvim.frames} == {""}


async def test_accepting_a_line_leaves_the_next_one_alone(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, "ready")
    await ready(nvim)
    await nvim.keys("A")
    await asked(nvim, 1)
    await answer(nvim, "sum(\n    values\n)")
    assert nvim.frame.ghost == "sum(\n    values\n)"
    await nvim.keys("<M-Down>")
    await nvim.until(lambda frame: frame.cursor[1] == len("total = sum("))
    assert await nvim.lines() == ["total = sum("]
    await asked(nvim, 2)
    await answer(nvim, "\n    values\n)")
    await nvim.keys("<M-Down>")
    await nvim.until(lambda frame: frame.cursor[0] == 1)
    assert await nvim.lines() == ["total = sum(", "    values"]


async def test_a_key_without_a_suggestion_does_what_it_always_did(
    edit_with: Open, script: Path
) -> None:
    nvim = await edit_with(script, *STANDIN)
    await nvim.keys("I<Tab>")
    await nvim.until_line("    total =")
    assert await nvim.lines() == ["    total = "]


async def test_who_typed_before_the_model_was_ready_is_served_when_it_is(
    edit_with: Open, script: Path
) -> None:
    nvim = await edit_with(script, *STANDIN)
    await nvim.keys("A")
    await nvim.until(lambda frame: "INSERT" in frame.rows[-1])
    await nvim.until_told(lambda told: ("attached", []) in told)
    await nvim.lua(TELL, "ready", {})
    await asked(nvim, 1)
    await answer(nvim, "sum(values)")
    assert nvim.frame.ghost == "sum(values)"


async def test_a_server_that_crashes_is_restarted_with_growing_pauses_and_then_not_any_more(
    edit_with: Open, script: Path
) -> None:
    nvim = await edit_with(script, *STANDIN, "ready", extra=AT_ONCE)
    for life in range(1, 5):
        await nvim.until_told(lambda told, life=life: told.count(("status", ["ready"])) == life)
        await crash(nvim)
    await nvim.until_told(lambda told: ("status", ["error"]) in told)
    await nvim.until_shown("mercury: the server keeps stopping; see `:Mercury status`")
    assert await nvim.lua("return waits") == [1000, 4000, 16000]
    await nvim.keys(":Mercury status<CR>")
    frame = await nvim.until(lambda frame: "the server stopped 4 times" in frame.text)
    assert "`:Mercury log` shows why; `:Mercury restart` tries again." in frame.text
    await nvim.keys("<CR>:Mercury restart<CR>A")
    await asked(nvim, 1)


async def test_after_a_crash_there_are_suggestions_again(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, "ready", extra=AT_ONCE)
    await ready(nvim)
    await crash(nvim)
    await nvim.until_told(lambda told: told.count(("status", ["ready"])) == 2)
    await nvim.keys("A")
    await asked(nvim, 1)
    await answer(nvim, "sum(values)")
    assert nvim.frame.ghost == "sum(values)"


async def test_missing_weights_are_reported_without_taking_the_keys_of_the_user(
    edit_with: Open, script: Path, tmp_path: Path
) -> None:
    empty = {"MERCURY_CACHE": str(tmp_path / "empty"), "MERCURY_OFFLINE": "1"}
    nvim = await edit_with(script, *SERVER, **empty)
    await nvim.keys("A1")
    await nvim.until_told(lambda told: ("status", ["missing"]) in told)
    await nvim.keys(" + 1<Esc>")
    await nvim.until(lambda frame: "run `:Mercury download`" in frame.rows[-1])
    assert nvim.frame.line == "total = 1 + 1"
    assert await nvim.lua("return require('mercury').status()") == "mercury: missing"
    await nvim.keys(":Mercury status<CR>")
    await nvim.until(lambda frame: "The weights of mini are not on this machine." in frame.text)
    assert "Run: mercury-lsp models pull mini." in nvim.frame.text
    await nvim.keys("<CR>:Mercury download<CR>")
    await nvim.until(lambda frame: "network" in frame.text)


async def test_a_server_that_is_not_installed_is_told_with_the_way_to_a_remedy(
    edit_with: Open, script: Path
) -> None:
    nvim = await edit_with(script, "mercury-lsp-away", "--stdio")
    await nvim.until(lambda frame: '"mercury-lsp-away" was not found' in frame.text)
    assert "see `:checkhealth mercury`" in nvim.frame.text
    await nvim.keys(":checkhealth mercury<CR>")
    await nvim.until(lambda frame: "pip install mercury-lsp" in frame.text)
    assert "or name it: require('mercury').setup" in nvim.frame.text


async def test_a_server_that_is_too_old_is_told_and_left_off(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, "old")
    await nvim.until(lambda frame: "the server is too old" in frame.text)
    await nvim.keys(":Mercury status<CR>")
    await nvim.until(lambda frame: "0.1.0 or later is needed" in frame.text)
    assert "this is mercury-lsp 0.0.9" in nvim.frame.text
    assert "Run: pip install --upgrade mercury-lsp" in nvim.frame.text
    await nvim.keys("<CR>:edit other.py<CR>")
    await nvim.until(lambda frame: "other.py" in frame.text)
    assert await nvim.lua("return require('mercury').status()") == "mercury: error"
    assert nvim.told.count(("status", ["starting"])) == 1, "it is not started again"


async def test_a_server_that_cannot_start_is_tried_three_times_more(
    edit_with: Open, script: Path
) -> None:
    program = script.with_name("broken")
    program.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    program.chmod(0o755)
    nvim = await edit_with(script, str(program), extra=AT_ONCE)
    for life in range(1, 5):
        await nvim.until_told(lambda told, life=life: told.count(("status", ["starting"])) >= life)
        await dismissed(nvim, "quit with exit code 3")
    await nvim.until_told(lambda told: ("status", ["error"]) in told)
    assert await nvim.lua("return waits") == [1000, 4000, 16000]
    assert "keeps stopping" in await nvim.lua("return vim.fn.execute('messages')")


async def test_options_of_wrong_types_are_told_and_left_out(edit_with: Open, script: Path) -> None:
    wrong = "vim.schedule(function() require('mercury').setup { keys = 5, deadline = 3 } end)"
    nvim = await edit_with(script, *STANDIN, "ready", extra=wrong)
    await ready(nvim)
    said = await nvim.lua("return vim.fn.execute('messages')")
    assert 'mercury: option "keys" must be a table; it is ignored.' in said
    assert 'mercury: unknown option "deadline"; it is ignored.' in said


async def test_settings_of_wrong_types_are_told_by_the_server_which_goes_on(
    edit_with: Open, script: Path, cache_dir: Path
) -> None:
    weights = {"MERCURY_CACHE": str(cache_dir)}
    nvim = await edit_with(script, *SERVER, settings={"deadlineMs": "soon"}, **weights)
    await dismissed(nvim, "mercury.deadlineMs must be a number; 150 is used.")
    await nvim.until_told(lambda told: ("status", ["ready"]) in told)


async def test_two_windows_on_one_folder_have_a_server_each(edit_with: Open, script: Path) -> None:
    one = await edit_with(script, *STANDIN, "ready")
    other = await edit_with(script, *STANDIN, "ready")
    for nvim, text in ((one, "sum(values)"), (other, "len(values)")):
        await ready(nvim)
        await nvim.keys("A")
        await asked(nvim, 1)
        await answer(nvim, text)
        assert nvim.frame.ghost == text
    await one.lua("require('mercury').disable()")
    await one.until_told(lambda told: ("status", ["off"]) in told)
    await other.keys("1")
    await asked(other, 2)
    await answer(other, "0 * len(values)")
    assert other.frame.ghost == "0 * len(values)"


async def test_next_and_previous_go_round_the_alternatives(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, "ready")
    await ready(nvim)
    await nvim.keys("A")
    await asked(nvim, 1)
    await answer(nvim, "one", "two", "three")
    for key, shown in (("<M-]>", "two"), ("<M-]>", "three"), ("<M-]>", "one"), ("<M-[>", "three")):
        await nvim.keys(key)
        await nvim.until(lambda frame, shown=shown: frame.ghost == shown)
    await nvim.accept()
    assert await nvim.lines() == ["total = three"]


async def test_a_buffer_and_a_filetype_can_be_left_alone(edit_with: Open, script: Path) -> None:
    nvim = await edit_with(script, *STANDIN, "ready")
    await ready(nvim)
    await nvim.lua("vim.b.mercury_enabled = false")
    await nvim.keys("A1")
    await nvim.until_line("total = 1")
    await nvim.keys("<Esc>")
    await nvim.lua("vim.b.mercury_enabled = nil; vim.bo.filetype = 'gitcommit'")
    await nvim.keys("A2")
    await nvim.until_line("total = 12")
    assert not [rest for what, rest in nvim.told if what == "request" and rest[1] == COMPLETION]
    await nvim.lua("vim.b.mercury_enabled = true")
    await nvim.keys("3")
    await asked(nvim, 1)


@pytest.mark.parametrize(
    "menu",
    [
        'package.loaded["blink.cmp"] = { is_menu_visible = function() return vim.g.menu end }',
        "package.loaded.cmp = { visible = function() return vim.g.menu end }",
    ],
    ids=["blink.cmp", "nvim-cmp"],
)
async def test_the_menus_of_plugins_go_before_ghost_text(
    edit_with: Open, script: Path, menu: str
) -> None:
    nvim = await edit_with(script, *STANDIN, "ready", extra=menu)
    await ready(nvim)
    await nvim.keys("A")
    await asked(nvim, 1)
    await answer(nvim, "12")
    assert nvim.frame.ghost == "12"
    await nvim.lua("vim.g.menu = true")
    await nvim.keys("1")
    await nvim.until_line("total = 1")
    assert not nvim.frame.ghost
    await nvim.lua("vim.g.menu = false")
    await nvim.keys("2")
    await asked(nvim, 2)
    await answer(nvim, "3")
    assert nvim.frame.ghost == "3"


async def test_a_statusline_says_what_the_server_does(edit_with: Open, script: Path) -> None:
    line = "vim.o.laststatus = 2; vim.o.statusline = \"<%{v:lua.require'mercury'.status()}>\""
    nvim = await edit_with(script, *STANDIN, "ready", extra=line)
    await nvim.until(lambda frame: "<mercury>" in frame.text)
    await nvim.keys(":Mercury disable<CR>")
    await nvim.until(lambda frame: "<mercury: off>" in frame.text)
    await nvim.keys(":Mercury toggle<CR>")
    await nvim.until(lambda frame: "<mercury>" in frame.text)


@pytest.mark.parametrize("value", PATHS)
async def test_files_of_the_folder_do_not_run_in_the_server_nor_in_its_doctor(
    edit_with: Open, tmp_path: Path, value: str
) -> None:
    folder = Hostile.make(tmp_path)
    path = folder.path / "script.py"
    path.write_text("total =\n", encoding="utf-8")
    settings = {"model": "tiny"}
    extra = HEEDED.format(json.dumps(folder.python_path(value)))
    nvim = await edit_with(path, SCRIPT, "--stdio", settings=settings, extra=extra)
    await ready(nvim)
    await nvim.keys(":checkhealth mercury<CR>")
    await nvim.until(lambda frame: "server: " in frame.text)
    assert folder.ran() == set()


async def test_files_of_the_folder_do_not_run_in_the_server_of_the_configuration_without_the_plugin(
    edit_with: Open, tmp_path: Path
) -> None:
    """The README's, as far as Neovim 0.11 understands it."""
    (snippet,) = re.findall(
        r"^vim.lsp.config\(.*?^\}\)\n^vim.lsp.enable.*?$", README.read_text("utf-8"), re.M | re.S
    )
    folder = Hostile.make(tmp_path)
    path = folder.path / "script.py"
    path.write_text("total =\n", encoding="utf-8")
    own = snippet.replace('"mercury-lsp"', json.dumps(SCRIPT))
    nvim = await edit_with(path, "mercury-lsp-away", extra=HEEDED.format('"."') + own)
    await dismissed(nvim, "was not found")  # the plugin's server
    if not await nvim.lua("return vim.lsp.config ~= nil"):
        pytest.skip("Neovim 0.11 or later is needed")
    await nvim.until_told(lambda told: ("attached", []) in told)
    assert folder.ran() == set()
