"""A minimal LSP client over stdio with its own JSON-RPC framing.

It is small so that the benchmark measures the server. It knows no documents; see `editor`.
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

_LOG_TAIL_BYTES = 4_000
_SHUTDOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `result` is JSON; `error` is the message of a JSON-RPC error."""

    result: Any
    error: str | None
    received_ns: int


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that was sent."""

    id: int
    sent_ns: int
    answer: asyncio.Future[Answer]


class Client:
    """One server process. `settings` answers its `workspace/configuration` requests."""

    def __init__(self, process: Process, settings: Mapping[str, Any]) -> None:
        self._process = process
        self._settings = settings
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 0
        self._log_tail = b""
        self._listener = asyncio.create_task(self._read_stderr())
        self._reader = asyncio.create_task(self._read_messages())

    @classmethod
    async def start(cls, command: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Start `command` and initialise the server. Raises ServerGone if that fails."""
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

    def request(self, method: str, params: Mapping[str, Any]) -> PendingRequest:
        """Send a request. Its future raises ServerGone if the server ends without answering."""
        self._next_id += 1
        future = asyncio.get_running_loop().create_future()
        # Retrieve the exception of an abandoned request, so that asyncio does not warn about it.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending[self._next_id] = future
        sent_ns = time.perf_counter_ns()
        self._send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return PendingRequest(self._next_id, sent_ns, future)

    def cancel(self, pending: PendingRequest) -> None:
        """Send `$/cancelRequest` unless the answer has arrived."""
        if not pending.answer.done():
            self.notify("$/cancelRequest", {"id": pending.id})

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and return its result. Raises ServerGone if it fails."""
        answer = await self.request(method, params).answer
        if answer.error is not None:
            raise self.server_gone(f"The server refused {method}: {answer.error}")
        return answer.result

    async def stop(self) -> int:
        """Shut the server down, kill it if it does not exit, and return its exit code."""
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
            raise self.server_gone("The server has ended.")
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _read_messages(self) -> None:
        assert self._process.stdout is not None
        problem = "The server has ended."
        try:
            while True:
                header = await self._process.stdout.readuntil(b"\r\n\r\n")
                length = int(header.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                message = json.loads(await self._process.stdout.readexactly(length))
                self._dispatch(message, time.perf_counter_ns())
        except asyncio.IncompleteReadError:
            # The last output of a server that crashed may still be in the stderr pipe.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._listener), 1)
        except (ValueError, IndexError, KeyError, asyncio.LimitOverrunError) as error:
            problem = f"The server sent something that is not LSP ({error})."
        finally:
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(self.server_gone(problem))
            self._pending.clear()

    def _dispatch(self, message: dict[str, Any], received_ns: int) -> None:
        if "method" not in message:
            future = self._pending.pop(message["id"])
            error = message.get("error")
            if not future.done():
                text = None if error is None else str(error.get("message"))
                future.set_result(Answer(message.get("result"), text, received_ns))
        elif "id" in message:
            result = self._configuration(message) if "configuration" in message["method"] else None
            self._send({"jsonrpc": "2.0", "id": message["id"], "result": result})
        elif message["method"] in ("window/logMessage", "window/showMessage"):
            self._append_log(str(message["params"].get("message")).encode() + b"\n")

    def _configuration(self, message: dict[str, Any]) -> list[Mapping[str, Any]]:
        return [self._settings for _ in message["params"]["items"]]

    async def _read_stderr(self) -> None:
        """Drain stderr so that the pipe never fills up, and keep the end for error messages."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._append_log(chunk)

    def _append_log(self, output: bytes) -> None:
        self._log_tail = (self._log_tail + output)[-_LOG_TAIL_BYTES:]

    def server_gone(self, problem: str) -> ServerGone:
        """The problem as an error that quotes the end of the server's log."""
        log_tail = self._log_tail.decode(errors="replace").strip()
        remedy = f"Its last output:\n{log_tail}" if log_tail else "Run mercury-lsp doctor."
        return ServerGone(problem, remedy)
