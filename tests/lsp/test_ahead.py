"""What the model does, call by call: reading ahead, stopping, and going on where it was stopped.

A call to the model waits for a byte in a named pipe, and tells of itself in a file.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import FORMAT
from lsp.wire import SCRIPTED, Wire, serving

from mercury_model.runtime.limits import CHUNK_TOKENS

AUTOMATIC = 2
CANCELLED = -32800
LONG = "h = a\n" * 40
CHUNKS = -(-FORMAT.prefix_tokens // CHUNK_TOKENS)
"""How many calls it takes to read what the model sees of the text above."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="named pipes in the file system")


@dataclass
class Model:
    """The scripted model's other end."""

    wire: Wire
    calls: Path
    gate: int

    def let(self, steps: int) -> None:
        """Let the model make so many calls."""
        os.write(self.gate, b"." * steps)

    async def called(self, times: int) -> None:
        """Wait for the model to begin its call of that number."""
        async with asyncio.timeout(60):
            while len(self.made()) < times:
                await asyncio.sleep(0.001)

    def made(self) -> str:
        return self.calls.read_text() if self.calls.exists() else ""

    async def records(self) -> list[dict[str, Any]]:
        return list((await self.wire.result("mercury/statistics", {}))["records"])


@asynccontextmanager
async def gated(
    folder: Path, writes: str = "", quick: int = 0, **settings: Any
) -> AsyncIterator[Model]:
    """The model writes `writes`, or without end; `quick` is the size of its quick window."""
    calls, gate = folder / "calls", folder / "gate"
    os.mkfifo(gate)
    scenario = {"writes": writes or "abcd" * 100, "endless": not writes}
    scenario |= {"calls": str(calls), "gate": str(gate), "quick": quick}
    command = [*SCRIPTED, json.dumps(scenario)]
    handle = os.open(gate, os.O_RDWR)
    try:
        async with serving(command) as wire:
            await wire.initialize(
                initializationOptions={"mode": "autoregressive", "maxTokens": 400, **settings}
            )
            await wire.hear("mercury/status", state="ready")
            yield Model(wire, calls, handle)
    finally:
        os.close(handle)


async def test_a_cancelled_request_stops_the_model_at_its_next_step(tmp_path: Path) -> None:
    async with gated(tmp_path, invokedDeadlineMs=60_000) as model:
        model.wire.notify("textDocument/didOpen", document("h = ", language="klingon"))
        number, answer = model.wire.begin(0, 4)
        model.let(3)
        await model.called(4)
        model.wire.notify("$/cancelRequest", {"id": number})
        assert (await answer)["error"]["code"] == CANCELLED
        model.let(1000)
        # The worker has come back from it when it answers something else.
        model.wire.notify("workspace/didChangeConfiguration", {"settings": {"maxTokens": 1}})
        await model.wire.complete(0, 4)
        # Four of the first request, and of the second its one token and nothing of the context.
        assert len(model.made()) <= 4 + 2
        assert (await model.records())[0]["outcome"] == "cancelled"


async def test_the_newest_request_stops_the_older_at_its_next_step(tmp_path: Path) -> None:
    async with gated(tmp_path, invokedDeadlineMs=60_000) as model:
        model.wire.notify("textDocument/didOpen", document("h = ", language="klingon"))
        _, older = model.wire.begin(0, 4)
        model.let(3)
        await model.called(4)
        _, newer = model.wire.begin(0, 4)
        assert (await older)["result"] is None
        model.let(1)
        await model.called(5)
        model.wire.notify("textDocument/didClose", {"textDocument": {"uri": "file:///a.py"}})
        assert (await newer)["result"] is None
        assert [r["outcome"] for r in await model.records()] == ["superseded", "stale"]


async def test_the_model_reads_a_document_as_it_is_opened(tmp_path: Path) -> None:
    async with gated(tmp_path, deadlineMs=60_000, maxTokens=4) as model:
        model.wire.open(LONG + "h = ")
        model.let(1000)
        await model.called(1)
        await model.wire.complete(40, 4, kind=AUTOMATIC)
        [record] = await model.records()
        assert record["prefill_chunks"] < CHUNKS
        assert model.made().startswith("e" * CHUNKS)


async def test_reading_goes_on_after_a_missed_deadline(tmp_path: Path) -> None:
    async with gated(tmp_path, deadlineMs=1) as model:
        model.wire.open(LONG + "h = ")
        _, missed = model.wire.begin(40, 4, kind=AUTOMATIC)
        await model.called(1)
        model.let(1)
        assert (await missed)["result"] == []
        [record] = await model.records()
        assert (record["missed"], record["steps"]) == (True, 0)
        model.let(1000)
        await model.called(CHUNKS)


async def test_the_full_window_is_read_once_the_quick_one_has_answered(tmp_path: Path) -> None:
    async with gated(tmp_path, writes="\n", quick=20, deadlineMs=60_000) as model:
        model.wire.open(LONG + "h = ")
        model.let(1000)
        await model.wire.complete(40, 4, kind=AUTOMATIC)
        [record] = await model.records()
        assert not record["missed"]
        answered = record["prefill_chunks"] + record["steps"]
        await model.called(answered + CHUNKS - 1)  # the window has moved, by less than a chunk


async def test_the_model_reads_on_where_the_document_changed(tmp_path: Path) -> None:
    async with gated(tmp_path) as model:
        model.let(1000)
        model.wire.open("h = ")
        await model.called(1)
        model.wire.notify("textDocument/didChange", typed("a", 4))
        await model.called(2)
        assert set(model.made()) == {"e"}


async def test_an_offer_that_stands_is_looked_beyond_until_the_next_key(tmp_path: Path) -> None:
    async with gated(tmp_path, writes="ab", deadlineMs=60_000) as model:
        model.wire.open("h = ")
        model.let(3)
        assert await model.wire.complete(0, 4, kind=AUTOMATIC)
        await model.called(4)
        model.wire.notify("textDocument/didChange", typed("c", 4))
        await model.records()  # the change has arrived
        model.let(1000)
        await model.wire.complete(0, 5, kind=AUTOMATIC)
        assert len(model.made()) <= 4 + 3


async def test_nothing_is_read_where_nothing_is_offered(tmp_path: Path) -> None:
    async with gated(tmp_path, disabledLanguages=["elvish"]) as model:
        model.let(1000)
        model.wire.notify("textDocument/didOpen", document("h = ", "file:///b", "klingon"))
        model.wire.notify("textDocument/didOpen", document("h = ", "file:///c", "elvish"))
        # What is opened last is read last, as soon as all has been quiet for the same time.
        model.wire.open("h = ")
        await model.called(1)
        assert model.made() == "e"


def document(text: str, uri: str = "file:///a.py", language: str = "python") -> dict[str, Any]:
    return {"textDocument": {"uri": uri, "languageId": language, "version": 1, "text": text}}


def typed(text: str, character: int) -> dict[str, Any]:
    """Text that is put in the first line."""
    place = {"line": 0, "character": character}
    change = {"range": {"start": place, "end": place}, "text": text}
    return {
        "textDocument": {"uri": "file:///a.py", "version": 2},
        "contentChanges": [change],
    }
