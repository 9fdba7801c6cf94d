"""A real Neovim with the plugin: keys go in, and every frame that it showed can be looked at.

It runs embedded, over msgpack-RPC on its standard input and output; the test is its terminal.
Nothing here waits for time to pass: only for what Neovim shows or tells, up to `PATIENCE_SECONDS`.
"""

import asyncio
import json
import os
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
from editors.screen import Frame, Screen

PLUGIN = Path(os.environ.get("MERCURY_PLUGIN", Path(__file__).parents[2] / "editors" / "neovim"))
PATIENCE_SECONDS = 60.0
COLUMNS, ROWS = 80, 24

COMPLETION = "textDocument/inlineCompletion"
INIT = """
vim.opt.runtimepath:append(%(plugin)s)
vim.api.nvim_set_hl(0, "MercuryGhost", { fg = "#7f8a9c", italic = true })
-- A closed terminal hears nothing more; an error about that would wait for a key, for ever.
local function tell(...)
  pcall(vim.rpcnotify, 1, ...)
end
vim.api.nvim_create_autocmd("LspRequest", {
  callback = function(event)
    local request = event.data.request
    tell("request", event.data.request_id, request.method, request.type)
  end,
})
vim.api.nvim_create_autocmd("LspAttach", {
  callback = function()
    tell("attached")
  end,
})
vim.api.nvim_create_autocmd("User", {
  pattern = "MercuryStatus",
  callback = function()
    tell("status", require("mercury.client").state)
  end,
})
%(extra)s
require("mercury").setup(vim.json.decode(%(options)s))
"""


class Neovim:
    """`frames` is all that was shown, in order, each at one of `moments` in milliseconds; `told`
    the plugin's states and LSP requests."""

    def __init__(self, process: Process) -> None:
        self.frames: list[Frame] = []
        self.moments: list[float] = []
        self.told: list[tuple[str, list[Any]]] = []
        self._process = process
        self._screen = Screen()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._more = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    def process_id(self) -> int:
        """Of Neovim, whose children are the servers."""
        return self._process.pid

    @property
    def frame(self) -> Frame:
        """What is shown now."""
        return self.frames[-1]

    async def request(self, method: str, *arguments: Any) -> Any:
        """The result of an API function."""
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(msgpack.packb([0, number, method, arguments]))
        async with self._watched(method):
            error, result = await answer
        assert error is None, error
        return result

    async def lua(self, code: str, *arguments: Any) -> Any:
        """What a Lua chunk returns."""
        return await self.request("nvim_exec_lua", code, arguments)

    async def keys(self, keys: str) -> None:
        """Press keys, named as in mappings. They may not have been handled yet."""
        await self.request("nvim_input", keys)

    async def accept(self) -> None:
        """Press Tab, and wait until the cursor stands behind what was shown. More may be shown
        there by then."""
        before = self.frame.cursor
        await self.keys("<Tab>")
        await self.until(lambda frame: frame.cursor != before)

    async def until(self, seen: Callable[[Frame], object]) -> Frame:
        """The frame that is shown if it is as `seen` says, or the first one that is."""
        return await self._wait(lambda: self.frame if self.frames and seen(self.frame) else None)

    async def until_shown(self, text: str) -> None:
        """Wait for a frame with `text`, which may be gone again."""
        await self._wait(lambda: any(text in frame.text for frame in self.frames))

    async def until_told(self, told: Callable[[list[tuple[str, list[Any]]]], object]) -> None:
        """Wait for what the plugin or the LSP client tell."""
        await self._wait(lambda: told(self.told))

    async def until_line(self, line: str, column: int | None = None) -> Frame:
        """The first frame with this text, ghost and all, in the row of the cursor."""
        return await self.until(
            lambda frame: frame.line == line and column in (None, frame.cursor[1])
        )

    async def until_ghost(self) -> Frame:
        """The first frame with ghost text, of now or later."""
        return await self.until(lambda frame: frame.ghost)

    async def until_answered(self) -> Frame:
        """The frame once every completion that was asked for is answered and acted upon.

        Neovim tells of a request before it shows the key that caused it: wait for that one first.
        """
        await self.until_told(_all_answered)
        return await self.redrawn()

    async def redrawn(self) -> Frame:
        """The frame once all that Neovim had to do so far is done, and shown."""
        await self.lua("vim.cmd.redraw()")
        return self.frame

    async def lines(self) -> list[str]:
        """The text of the buffer."""
        return list(await self.request("nvim_buf_get_lines", 0, 0, -1, True))

    async def write(self, path: Path) -> str:
        """Leave insert mode, `:w`, and what is in the file then."""
        await self.keys("<Esc>:w<CR>")
        await self.until(lambda frame: "written" in frame.rows[-1])
        return path.read_text(encoding="utf-8")

    async def close(self) -> None:
        """End it as a terminal that is closed does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await self._reader

    async def _wait(self, found: Callable[[], Any]) -> Any:
        async with self._watched("what was waited for"), self._more:
            return await self._more.wait_for(found)

    @asynccontextmanager
    async def _watched(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield
        except TimeoutError:
            shown = "\n".join(self.frame.rows) if self.frames else "nothing"
            told = "\n".join(map(str, self.told))
            raise AssertionError(f"{what} did not happen\n{shown}\n{told}") from None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="replace")
        while data := await self._process.stdout.read(1 << 16):
            unpacker.feed(data)
            for message in unpacker:
                self._take(message)
            async with self._more:
                self._more.notify_all()

    def _take(self, message: list[Any]) -> None:
        if message[0] == 1:
            _, number, error, result = message
            self._answers[number].set_result((error, result))
        elif message[1] == "redraw":
            for event, *batch in message[2]:
                self._screen.apply(event, batch)
                if event == "flush":
                    self.moments.append(time.perf_counter_ns() / 1e6)
                    self.frames.append(self._screen.frame())
        else:
            self.told.append((message[1], message[2]))


def _all_answered(told: Sequence[tuple[str, list[Any]]]) -> bool:
    requests = [rest for what, rest in told if what == "request" and rest[1] == COMPLETION]
    last = {number: kind for number, _, kind in requests}
    return bool(last) and all(kind == "complete" for kind in last.values())


@asynccontextmanager
async def editing(
    binary: str,
    path: Path,
    options: Mapping[str, Any],
    *,
    extra: str = "",
    environment: Mapping[str, str] | None = None,
    size: tuple[int, int] = (COLUMNS, ROWS),
) -> AsyncIterator[Neovim]:
    """A Neovim with `path` open and the plugin set up with `options`, after the Lua in `extra`."""
    home = path.parent / ".home"
    home.mkdir(exist_ok=True)
    init = home / "init.lua"
    values = {"plugin": json.dumps(str(PLUGIN)), "options": json.dumps(json.dumps(options))}
    init.write_text(INIT % {**values, "extra": extra}, encoding="utf-8")
    folders = {f"XDG_{kind}_HOME": str(home) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    process = await asyncio.create_subprocess_exec(
        *(binary, "--embed", "-u", str(init), "-i", "NONE", "-n", str(path)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd=path.parent,
        env={**os.environ, **folders, **(environment or {})},
    )
    nvim = Neovim(process)
    try:
        looks = {"rgb": True, "ext_linegrid": True, "ext_hlstate": True}
        await nvim.request("nvim_ui_attach", *size, looks)
        yield nvim
    finally:
        await nvim.close()
