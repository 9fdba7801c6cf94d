"""Draws the README's picture of Neovim: `python tests/editors/screenshot.py`, with mini here.

A person's keys go into a real Neovim with the real server, and what its screen shows after each is
drawn as SVG: one picture with all of them in turn, or the one marked `STILL` where pictures stand
still. The text is the model's own; how long each is shown is made up, and no measurement.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).parents[1]))

from editors.nvim import PLUGIN, editing
from editors.screen import Cell, Frame

SERVER = [sys.executable, "-m", "mercury_lsp", "--stdio"]
SIZE = (58, 12)
EXTRA = """
vim.o.number = true
vim.o.laststatus = 0
vim.o.ruler = false
vim.o.showcmd = false
vim.opt.fillchars = { eob = " " }
"""
BEFORE = """import math


def circumference(radius):
    return 2 * math.pi * radius

"""
KEYS = "Go<CR>def half_circumference(radius):<CR>return"
TYPED = " math."
STILL = len(TYPED)

WIDTH, HEIGHT, MARGIN = 8.4, 19.0, 14.0
KEY_SECONDS, GHOST_SECONDS = 0.15, 2.0


async def film() -> list[tuple[Frame, float]]:
    """What was shown, and for how long to show it."""
    options = {"cmd": SERVER, "settings": {"deadlineMs": 60_000}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "circle.py"
        path.write_text(BEFORE, encoding="utf-8")
        binary = os.environ.get("MERCURY_NVIM") or "nvim"
        async with editing(binary, path, options, extra=EXTRA, size=SIZE) as nvim:
            await nvim.until_told(lambda told: ("status", ["ready"]) in told)
            await nvim.keys(KEYS)
            await nvim.until(lambda frame: "return" in frame.line)
            frames = [(await nvim.until_answered(), KEY_SECONDS)]
            for key in TYPED:
                column = nvim.frame.cursor[1] + 1
                await nvim.keys("<Space>" if key == " " else key)
                await nvim.until(lambda frame, column=column: frame.cursor[1] == column)
                frames.append((await nvim.until_answered(), KEY_SECONDS))
            frames[-1] = (await nvim.until_ghost(), GHOST_SECONDS)
            for key in ("<M-Right>", "<M-Right>", "<Tab>"):
                was = nvim.frame.cursor
                await nvim.keys(key)
                await nvim.until(lambda frame, was=was: frame.cursor != was)
                frames.append((await nvim.until_answered(), GHOST_SECONDS / 2))
    return frames


def colours(frame: Frame, look: int) -> tuple[str, str]:
    """The foreground and the background of a highlight."""
    standard = frame.looks[0].attributes
    own = frame.looks[look].attributes if look in frame.looks else {}
    pair = [own.get(name, standard[name]) for name in ("foreground", "background")]
    if own.get("reverse"):
        pair.reverse()
    return f"#{pair[0]:06x}", f"#{pair[1]:06x}"


def drawn_row(frame: Frame, row: int) -> Iterator[str]:
    """The text of a row, a piece for each run of one highlight."""
    column = 0
    for look, run in groupby(frame.cells[row], key=lambda cell: cell.look):
        cells: list[Cell] = list(run)
        text = "".join(cell.text for cell in cells)
        x, y, width = MARGIN + column * WIDTH, MARGIN + row * HEIGHT, len(cells) * WIDTH
        column += len(cells)
        front, back = colours(frame, look)
        if back != colours(frame, 0)[1]:
            size = f'width="{width:.1f}" height="{HEIGHT}"'
            yield f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{back}"/>'
        if text.strip():
            x += WIDTH * (len(text) - len(text.lstrip()))
            text = text.strip()
            own = frame.looks[look].attributes if look in frame.looks else {}
            face = ' font-weight="bold"' * ("bold" in own) + ' font-style="italic"' * (
                "italic" in own
            )
            place = f'x="{x:.1f}" y="{y + HEIGHT * 0.75:.1f}" textLength="{len(text) * WIDTH:.1f}"'
            yield f'<text {place} fill="{front}"{face}>{escape(text)}</text>'


def drawn(frame: Frame) -> str:
    """One frame, with the cursor as a bar."""
    rows = [piece for row in range(len(frame.cells)) for piece in drawn_row(frame, row)]
    y, x = MARGIN + frame.cursor[0] * HEIGHT, MARGIN + frame.cursor[1] * WIDTH
    front = colours(frame, 0)[0]
    bar = f'<rect x="{x:.1f}" y="{y:.1f}" width="2" height="{HEIGHT}" fill="{front}"/>'
    return "\n".join([*rows, bar])


def picture(frames: list[tuple[Frame, float]]) -> str:
    """All frames in turn, and only the still one where nothing may move."""
    width, height = 2 * MARGIN + SIZE[0] * WIDTH, 2 * MARGIN + SIZE[1] * HEIGHT
    length, begin = sum(seconds for _, seconds in frames), 0.0
    rules, groups = [], []
    for number, (frame, seconds) in enumerate(frames):
        start, end = 100 * begin / length, 100 * (begin + seconds) / length
        begin += seconds
        hidden = "" if number == 0 else "0%{visibility:hidden}"
        rest = "" if number == len(frames) - 1 else f"{end:.2f}%{{visibility:hidden}}"
        rules.append(f"@keyframes f{number}{{{hidden}{start:.2f}%{{visibility:visible}}{rest}}}")
        rules.append(f".f{number}{{animation:f{number} {length:.2f}s step-end infinite}}")
        shown = "visible" if number == STILL else "hidden"
        groups.append(f'<g class="f{number}" visibility="{shown}">\n{drawn(frame)}\n</g>')
    style = "@media (prefers-reduced-motion:no-preference){" + "".join(rules) + "}"
    back = colours(frames[0][0], 0)[1]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
            f' width="{width:.0f}" height="{height:.0f}" font-size="14" xml:space="preserve"'
            ' font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace">',
            f"<style>{style}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="{back}"/>',
            *groups,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    path = PLUGIN / "screenshot.svg"
    path.write_text(picture(asyncio.run(film())), encoding="utf-8")
