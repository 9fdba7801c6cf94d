"""A person at a Neovim with the plugin, the real server and mini: what is seen, and what is saved.

What mini writes is nobody's business here: it is read off the screen. What is shown must fit the
text around it, be what accepting inserts, and come and go as the keys say.
"""

from pathlib import Path

import psutil
import pytest
from editors.conftest import Open

pytestmark = [pytest.mark.editors, pytest.mark.mini]

LAST = "    return math."
ONLY = """
local make = vim.lsp.protocol.make_client_capabilities
vim.lsp.protocol.make_client_capabilities = function()
  local capabilities = make()
  capabilities.general.positionEncodings = { "%s" }
  return capabilities
end
"""


async def test_ghost_text_appears_for_a_real_gap(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    frame = await nvim.until_ghost()
    assert "radius" in frame.ghost
    assert frame.line == LAST + frame.ghost
    assert frame.cursor == (4, len(LAST)), "the cursor stays before the ghost"
    assert (await nvim.lines())[-1] == LAST, "ghost text is not in the buffer"


async def test_accepting_writes_what_was_shown(edit: Open, circle: Path) -> None:
    before = circle.read_text(encoding="utf-8")
    nvim = await edit(circle)
    await nvim.keys("GA")
    ghost = (await nvim.until_ghost()).ghost
    await nvim.accept()
    assert await nvim.write(circle) == before.replace(LAST, LAST + ghost)


async def test_accepting_a_word_leaves_the_rest_as_ghost(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    first = await nvim.until_ghost()
    seen = len(nvim.frames) - 1
    await nvim.keys("<M-Right>")
    await nvim.until(lambda frame: frame.cursor > first.cursor)
    frame = await nvim.until_answered()
    word = (await nvim.lines())[-1].removeprefix(LAST)
    assert word.isidentifier()
    assert frame.ghost == first.ghost.removeprefix(word)
    assert {frame.line for frame in nvim.frames[seen:]} == {first.line}, "it never flickered"


async def test_words_are_accepted_as_fast_as_the_key_is_pressed(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    ghost = (await nvim.until_ghost()).ghost
    await nvim.keys("<M-Right><M-Right><M-Right>#")
    await nvim.until(lambda frame: "#" in frame.line)
    taken = (await nvim.lines())[-1].removeprefix(LAST).removesuffix("#")
    assert ghost.startswith(taken)
    assert len(taken.split()) >= 2


async def test_what_is_typed_right_after_accepting_stands_behind_it(
    edit: Open, circle: Path
) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    ghost = (await nvim.until_ghost()).ghost
    await nvim.keys("<Tab>  # done")
    await nvim.until(lambda frame: "# done" in frame.line)
    assert (await nvim.lines())[-1] == f"{LAST}{ghost}  # done"


async def test_typing_through_keeps_the_ghost_without_a_flicker(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    first = await nvim.until_ghost()
    seen, typed = len(nvim.frames) - 1, ""
    for key in first.ghost[:6]:
        typed += key
        await nvim.keys(key)
        await nvim.until_line(first.line, column=len(LAST + typed))
        await nvim.until_answered()
    assert {frame.line for frame in nvim.frames[seen:]} == {first.line}
    assert nvim.frame.ghost == first.ghost[len(typed) :]


async def test_dismissed_text_does_not_come_back(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    ghost = (await nvim.until_ghost()).ghost
    await nvim.keys("<C-]>")
    await nvim.until(lambda frame: not frame.ghost)
    seen = len(nvim.frames) - 1
    for end in (1, 2):
        await nvim.keys(ghost[end - 1])
        await nvim.until_line(LAST + ghost[:end])
        await nvim.until_answered()
    await nvim.keys("<Esc>A")
    await nvim.until(lambda frame: "INSERT" in frame.rows[-1])
    await nvim.until_answered()
    assert {frame.ghost for frame in nvim.frames[seen:]} == {""}
    await nvim.keys("<M-]>")
    await nvim.until_ghost()  # asked for, it may


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_columns_are_right_behind_characters_of_any_width(
    edit: Open, tmp_path: Path, encoding: str
) -> None:
    before, behind = "    naïve, 高さ = '😀é', math.", "  # 😀"
    path = tmp_path / "wide.py"
    path.write_text(f"import math\n\n\ndef area(radius):\n{before}{behind}\n", encoding="utf-8")
    nvim = await edit(path, extra=ONLY % encoding)
    await nvim.keys("Gf.a")
    frame = await nvim.until_ghost()
    assert await nvim.lua("return vim.lsp.get_clients()[1].offset_encoding") == encoding
    assert frame.line == before + frame.ghost + behind
    await nvim.accept()
    assert (await nvim.write(path)).splitlines()[-1] == before + frame.ghost + behind


async def test_a_bracket_that_was_closed_automatically_is_not_doubled(
    edit: Open, tmp_path: Path
) -> None:
    path = tmp_path / "count.py"
    path.write_text("def count(values):\n    return len\n", encoding="utf-8")
    nvim = await edit(path, extra='vim.keymap.set("i", "(", "()<Left>")')
    await nvim.keys("GA(")
    frame = await nvim.until(lambda frame: "len(" in frame.line and frame.ghost)
    assert frame.line.count("(") == frame.line.count(")")
    await nvim.accept()
    last = (await nvim.write(path)).splitlines()[-1]
    assert last == frame.line


async def test_undo_takes_back_what_was_accepted_in_one_step(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    ghost = (await nvim.until_ghost()).ghost
    await nvim.keys(ghost[0])
    await nvim.until(lambda frame: frame.ghost == ghost[1:])
    await nvim.accept()
    await nvim.keys("<Esc>u")
    await nvim.until_line(LAST + ghost[0])
    await nvim.keys("u")
    await nvim.until_line(LAST)


async def test_moving_back_into_typed_text_never_doubles_it(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.keys("GA")
    first = await nvim.until_ghost()
    await nvim.keys(first.ghost[:2])
    await nvim.until(lambda frame: frame.ghost == first.ghost[2:])
    seen = len(nvim.frames)
    await nvim.keys("<Left>")
    await nvim.until(lambda frame: frame.cursor[1] == len(LAST) + 1)
    await nvim.until_answered()
    for frame in nvim.frames[seen:]:
        assert not frame.ghost.startswith(first.ghost[1]), frame.line


async def test_late_answers_of_a_slowed_server_never_show(edit: Open, circle: Path) -> None:
    nvim = await edit(circle)
    await nvim.until_told(lambda told: ("status", ["ready"]) in told)
    children = psutil.Process(nvim.process_id).children(recursive=True)
    (server,) = (child for child in children if "mercury_lsp" in child.cmdline())
    server.suspend()
    try:
        await nvim.keys("GApx<BS>")
        await nvim.until_line(LAST + "p")
        assert not nvim.frame.ghost
    finally:
        server.resume()
    await nvim.until_ghost()
    await nvim.until_answered()
    for frame in nvim.frames:
        assert not frame.ghost or frame.line == LAST + "p" + frame.ghost


async def test_a_file_of_ten_megabytes_is_served_like_any_other(edit: Open, circle: Path) -> None:
    circle.write_text("x = [1, 2, 3]\n" * 750_000 + circle.read_text("utf-8"), "utf-8")
    nvim = await edit(circle)
    await nvim.keys("GA")
    frame = await nvim.until_ghost()
    assert frame.line == LAST + frame.ghost
    await nvim.accept()
    assert (await nvim.lines())[-1] == LAST + frame.ghost
