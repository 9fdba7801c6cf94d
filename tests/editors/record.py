"""Types a trace of the bench into a real editor, and records what it showed. Judges nothing.

No editor may help with the typing: it neither indents nor closes brackets, and nobody accepts, so
that what is right is typed through.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from editors.nvim import Neovim, editing
from editors.seen import Offer, Recording, Shown

from editors import vscode
from mercury_lsp.bench.record import METHOD
from mercury_lsp.bench.trace import Session, Trace

COLUMNS, ROWS = 200, 40
PLAIN = """
vim.cmd("filetype plugin indent off")
vim.o.autoindent = false
vim.o.smarttab = false
vim.o.wrap = false
local client = require("mercury.client")
local send = client.request
client.request = function(server, method, params, handler, buf)
  local line, asked, id = vim.api.nvim_get_current_line(), vim.uv.hrtime(), nil
  id = send(server, method, params, function(err, result, ...)
    for _, item in ipairs(result and result ~= vim.NIL and result or {}) do
      local becomes = line:sub(1, item.range.start.character) .. item.insertText
      vim.rpcnotify(1, "offered", id, asked, becomes)
    end
    return handler(err, result, ...)
  end, buf)
  return id
end
"""


class WrongText(Exception):
    """What was typed is not what stands in the editor, so that nothing was measured."""


def texts(session: Session) -> tuple[str, str]:
    """The document before and after the keys of a session."""
    written = ""
    for key in session.keys:
        written = written[: len(written) - key.erase] + key.text
    return session.before + session.after, session.before + written + session.after


def presses(erase: int, text: str) -> Iterator[str]:
    """The keys of one key press of a trace; the indentation of a new line comes with it."""
    named = {"\n": "<CR>", "<": "<lt>"}
    yield from ["<BS>"] * erase
    yield from (named.get(character, character) for character in text)


async def neovim(
    binary: str, cache_dir: Path, trace: Trace, speed: float, command: list[str]
) -> Recording:
    """Type it in Neovim with the plugin."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.py" for number in range(len(trace.sessions))]
        for path, session in zip(paths, trace.sessions, strict=True):
            # Neovim has no line behind the last line break; one more makes it a line.
            path.write_text(texts(session)[0] + "\n", encoding="utf-8")
        environment = {"MERCURY_CACHE": str(cache_dir)}
        async with editing(
            binary,
            paths[0],
            {"cmd": command},
            extra=PLAIN,
            environment=environment,
            size=(COLUMNS, ROWS),
        ) as nvim:
            await nvim.until_told(lambda told: ("status", ["ready"]) in told)
            keys, rests = [], []
            for path, session in zip(paths, trace.sessions, strict=True):
                await _go_to_gap(nvim, path, session)
                keys += await _type(nvim, session, speed)
                await nvim.until_answered()
                rests.append(_now())
                if await nvim.lines() != texts(session)[1].split("\n"):
                    raise WrongText(f"{path.name} does not hold what was typed")
                await nvim.keys("<Esc>")
                await nvim.until(lambda frame: "INSERT" not in frame.rows[-1])
            return await _recorded(nvim, keys, rests)


async def _go_to_gap(nvim: Neovim, path: Path, session: Session) -> None:
    lines = session.before.split("\n")
    await nvim.lua("vim.cmd('silent! write') vim.cmd.edit(...)", str(path))
    await nvim.lua("vim.api.nvim_win_set_cursor(0, { ... })", len(lines), len(lines[-1].encode()))
    await nvim.keys("A" if lines[-1] else "i")
    await nvim.until(lambda frame: "INSERT" in frame.rows[-1])
    await nvim.until_answered()


async def _type(nvim: Neovim, session: Session, speed: float) -> list[float]:
    """When each key was pressed."""
    moments, due = [], time.perf_counter()
    for key in session.keys:
        due += key.wait_ms / 1000 / speed
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        moments.append(_now())
        await nvim.keys("".join(presses(key.erase, key.text)))
    return moments


def _now() -> float:
    """In milliseconds of the clock that Neovim's `hrtime` reads, too."""
    return time.perf_counter_ns() / 1e6


async def _recorded(nvim: Neovim, keys: list[float], rests: list[float]) -> Recording:
    version = await nvim.lua("return tostring(vim.version())")
    ask = "return vim.lsp.get_clients()[1]:request_sync(...).result.records"
    records = await nvim.lua(ask, METHOD, {"since": 0})
    offers = [rest for what, rest in nvim.told if what == "offered"]
    return Recording(
        editor=f"Neovim {version}",
        keys=keys,
        rests=rests,
        frames=[
            Shown(at, "\n".join([frame.line, *below]), frame.ghost)
            for at, frame in zip(nvim.moments, nvim.frames, strict=True)
            for below in [frame.ghost.split("\n")[1:]]
        ],
        offers=[Offer(id, asked / 1e6, line) for id, asked, line in offers],
        server={record["request"]: record["total_ms"] for record in records},
    )


def in_vscode(surroundings: Mapping[str, str], trace: Trace, speed: float) -> Recording:
    """Type it in VS Code with the extension; `surroundings` are those of `vscode`."""
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder) / "task.json", Path(folder) / "result.json"
        sessions = [_as_json(session) for session in trace.sessions]
        task.write_text(json.dumps({"speed": speed, "sessions": sessions}), encoding="utf-8")
        vscode.run(["node", "test/record.mjs", str(task), str(result)], surroundings)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return Recording.from_json(found)


def _as_json(session: Session) -> dict[str, Any]:
    """A session as VS Code's script takes it."""
    before, after = texts(session)
    lines = session.before.split("\n")
    place = {"line": len(lines), "column": len(lines[-1]) + 1}
    return {"before": before, "after": after, **place, "keys": [asdict(k) for k in session.keys]}
