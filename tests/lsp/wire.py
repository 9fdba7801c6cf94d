"""An editor's end of the wire: a server process, what it is sent, and all it says, in order."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

SCRIPTED = [sys.executable, str(Path(__file__).parent / "scripted_server.py")]
WATCHDOG_SECONDS = 60.0
Message = dict[str, Any]

UTF16 = {
    "general": {"positionEncodings": ["utf-16"]},
    "textDocument": {"inlineCompletion": {}},
    "window": {"workDoneProgress": True},
    "experimental": {"mercuryStatus": True},
}


class Wire:
    """`reader` and `writer` are the server's standard output and input unless it listens elsewhere.

    The server's own requests get what `replies` has for their method, or an error if that is one.
    `nameless` are its answers to what had no id.
    """

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader | None = None,
        writer: asyncio.StreamWriter | None = None,
    ) -> None:
        self.process = process
        self.heard: list[Message] = []
        self.nameless: list[Message] = []
        self.replies: dict[str, Any] = {}
        self._input, self._output = reader or process.stdout, writer or process.stdin
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._more = asyncio.Condition()
        self._next = 0
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], **environment: str) -> "Wire":
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**os.environ, **environment}
        )
        return cls(process)

    def raw(self, data: bytes) -> None:
        assert self._output is not None
        self._output.write(data)

    def send(self, message: Message) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.raw(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def notify(self, method: str, params: Any) -> None:
        self.send({"method": method, "params": params})

    def request(self, method: str, params: Any) -> tuple[int, asyncio.Future[Message]]:
        self._next += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._next] = answer
        self.send({"id": self._next, "method": method, "params": params})
        return self._next, answer

    async def ask(self, method: str, params: Any) -> Message:
        _, answer = self.request(method, params)
        async with asyncio.timeout(WATCHDOG_SECONDS):
            return await answer

    async def result(self, method: str, params: Any) -> Any:
        answer = await self.ask(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    async def hear(self, method: str, **expected: Any) -> Message:
        """The first message of this method with these parameters, waited for if need be."""

        def found() -> list[Message]:
            return [
                message
                for message in self.heard
                if message["method"] == method
                and expected.items() <= (message.get("params") or {}).items()
            ]

        async with asyncio.timeout(WATCHDOG_SECONDS), self._more:
            await self._more.wait_for(found)
        return found()[0]

    async def initialize(self, capabilities: Any = UTF16, **params: Any) -> Message:
        result = await self.result(
            "initialize",
            {"processId": None, "rootUri": None, "capabilities": capabilities, **params},
        )
        self.notify("initialized", {})
        return dict(result)

    def open(self, text: str, uri: str = "file:///a.py", language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    async def complete(self, line: int, character: int, **others: Any) -> Message:
        _, answer = self.begin(line, character, **others)
        async with asyncio.timeout(WATCHDOG_SECONDS):
            return await answer

    def begin(
        self, line: int, character: int, uri: str = "file:///a.py", kind: int = 1, **context: Any
    ) -> tuple[int, asyncio.Future[Message]]:
        return self.request(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": uri},
                "position": {"line": line, "character": character},
                "context": {"triggerKind": kind, **context},
            },
        )

    async def end(self) -> tuple[int, str]:
        """Exit code and standard error, once the process has ended."""
        assert self.process.stderr is not None
        async with asyncio.timeout(WATCHDOG_SECONDS):
            said = await self.process.stderr.read()
            code = await self.process.wait()
            await self._reader
        return code, said.decode()

    async def shut_down(self) -> tuple[int, str]:
        await self.result("shutdown", None)
        self.notify("exit", None)
        return await self.end()

    async def _read(self) -> None:
        stream = self._input
        assert stream is not None
        while header := await stream.readline():
            length = int(header.split(b":")[1])
            while (await stream.readline()).strip():
                pass
            await self._take(json.loads(await stream.readexactly(length)))

    async def _take(self, message: Message) -> None:
        if "method" not in message:
            if (number := message.get("id")) is not None:
                self._answers.pop(number).set_result(message)
            else:
                self.nameless.append(message)
            return
        if "id" in message:
            reply = self.replies.get(message["method"])
            kind = "error" if isinstance(reply, dict) and "code" in reply else "result"
            self.send({"id": message["id"], kind: reply})
        async with self._more:
            self.heard.append(message)
            self._more.notify_all()


@asynccontextmanager
async def serving(command: Sequence[str], **environment: str) -> AsyncIterator[Wire]:
    """A server process that is gone when the block ends, however it ends."""
    wire = await Wire.start(command, **environment)
    try:
        yield wire
    finally:
        if wire.process.returncode is None:
            wire.process.kill()
        await wire.process.wait()
        await wire._reader
