"""The client's half of LSP over stdio, with its own few lines of JSON-RPC.

Small on purpose: what is measured should be the server. Knows no documents.
"""

import asyncio
import contextlib
import json
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mercury_lsp.errors import ServerGone
from mercury_model import children

_KEPT_BYTES = 4_000
_SHUTDOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `result` is JSON, `error` the message of a JSON-RPC error."""

    result: Any
    error: str | None
    received_ns: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A request on its way."""

    id: int
    sent_ns: int
    answer: asyncio.Future[Answer]


class Client:
    """One server process. `settings` is what it gets when it asks for its configuration."""

    def __init__(self, process: Process, settings: Mapping[str, Any]) -> None:
        self._process = process
        self._settings = settings
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 0
        self._said = b""
        self._listener = asyncio.create_task(self._overhear())
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Start `command` and initialise it. Raises ServerGone if it will not."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=children.environment()
        )
        client = cls(process, settings)
        try:
            await client.ask(
                "initialize",
                {
                    "processId": None,
                    "rootUri": None,
                    "clientInfo": {"name": "mercury-lsp bench"},
                    "initializationOptions": settings,
                    "capabilities": {
                        "general": {"positionEncodings": ["utf-16"]},
                        "textDocument": {"inlineCompletion": {}},
                        "workspace": {"configuration": True},
                    },
                },
            )
            client.notify("initialized", {})
        except BaseException:
            await client.stop()
            raise
        return client

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method: str, params: Mapping[str, Any]) -> Pending:
        """Send a request; its answer comes in a future, which raises ServerGone if none comes."""
        self._next_id += 1
        future = asyncio.get_running_loop().create_future()
        # An answer nobody waits for any more must not be reported as lost.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting[self._next_id] = future
        sent_ns = time.perf_counter_ns()
        self._send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return Pending(self._next_id, sent_ns, future)

    def cancel(self, pending: Pending) -> None:
        """Tell the server that nobody waits for this answer."""
        if not pending.answer.done():
            self.notify("$/cancelRequest", {"id": pending.id})

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of a request that must succeed. Raises ServerGone if it does not."""
        answer = await self.request(method, params).answer
        if answer.error is not None:
            raise self.gone(f"The server refused {method}: {answer.error}")
        return answer.result

    async def stop(self) -> int:
        """Shut the server down, by force if it does not go; returns its exit code."""
        with contextlib.suppress(TimeoutError, ServerGone):
            async with asyncio.timeout(_SHUTDOWN_SECONDS):
                await self.request("shutdown", {}).answer
                self.notify("exit", {})
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
        code = await self._process.wait()
        for task in (self._reader, self._listener):
            task.cancel()
        await asyncio.gather(self._reader, self._listener, return_exceptions=True)
        return code

    def _send(self, message: Mapping[str, Any]) -> None:
        body = json.dumps(message, ensure_ascii=False).encode()
        assert self._process.stdin is not None
        if self._reader.done() or self._process.stdin.is_closing():
            raise self.gone("The server has ended.")
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        problem = "The server has ended."
        try:
            while True:
                header = await self._process.stdout.readuntil(b"\r\n\r\n")
                length = int(header.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                message = json.loads(await self._process.stdout.readexactly(length))
                self._take(message, time.perf_counter_ns())
        except asyncio.IncompleteReadError:
            # The last words of a server that died are on their way through the other pipe.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._listener), 1)
        except (ValueError, IndexError, KeyError, asyncio.LimitOverrunError) as error:
            problem = f"The server sent what is not the protocol ({error})."
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self.gone(problem))
            self._waiting.clear()

    def _take(self, message: dict[str, Any], received_ns: int) -> None:
        if "method" not in message:
            future = self._waiting.pop(message["id"])
            error = message.get("error")
            if not future.done():
                text = None if error is None else str(error.get("message"))
                future.set_result(Answer(message.get("result"), text, received_ns))
        elif "id" in message:
            result = self._configuration(message) if "configuration" in message["method"] else None
            self._send({"jsonrpc": "2.0", "id": message["id"], "result": result})
        elif message["method"] in ("window/logMessage", "window/showMessage"):
            self._hear(str(message["params"].get("message")).encode() + b"\n")

    def _configuration(self, message: dict[str, Any]) -> list[Mapping[str, Any]]:
        return [self._settings for _ in message["params"]["items"]]

    async def _overhear(self) -> None:
        """Keep what the server logs, to quote it if it dies; a full pipe would stop it."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._hear(chunk)

    def _hear(self, words: bytes) -> None:
        self._said = (self._said + words)[-_KEPT_BYTES:]

    def gone(self, problem: str) -> ServerGone:
        """The problem, with the last words of the server."""
        said = self._said.decode(errors="replace").strip()
        remedy = f"Its last words:\n{said}" if said else "It said nothing; try mercury-lsp doctor."
        return ServerGone(problem, remedy)
