"""How an editor is connected: standard input and output, a TCP port, or a named pipe."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any

from mercury_lsp.config import Config, surroundings
from mercury_lsp.errors import SettingsError
from mercury_lsp.lsp import wire
from mercury_lsp.lsp.faults import describe
from mercury_lsp.lsp.server import Mercury, make_server
from mercury_lsp.service import model_store

log = logging.getLogger(__name__)

STEP_SECONDS = 2.0
"""How long an ending server waits for the model's last step."""


def serve_stdio(config: Config | None = None, *, client_process_id: int | None = None) -> int:
    """Serve over standard input and output. Raises SettingsError when one is closed."""
    return over_stdio(_make(config, client_process_id))


def over_stdio(mercury: Mercury) -> int:
    """`serve_stdio` for a given server. Other prints to standard output go to standard error."""
    try:
        descriptors = os.dup(0), os.dup(1)
    except OSError as error:
        raise SettingsError(
            "Standard input or output is closed.", "Let an editor start the server."
        ) from error
    with contextlib.suppress(OSError):  # a standard error that was closed
        os.dup2(2, 1)

    async def serve() -> None:
        incoming, outgoing = descriptors
        over = mercury.server.protocol.over
        await converse(mercury, wire.read_file(incoming), wire.FileWriter(outgoing, over.set))

    return _end(mercury, serve())


def serve_tcp(
    host: str, port: int, config: Config | None = None, *, client_process_id: int | None = None
) -> int:
    """Listen on `host`:`port` and serve the one editor that connects. Raises SettingsError."""
    mercury = _make(config, client_process_id)

    async def listen() -> None:
        connected = asyncio.get_running_loop().create_future()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if connected.done():
                writer.close()
            else:
                connected.set_result((reader, writer))

        try:
            listening = await asyncio.start_server(accept, host, port)
        except OSError as error:
            raise SettingsError(
                f"Nothing can listen on {host}:{port} ({error.strerror or error}).",
                "Choose another --tcp HOST:PORT.",
            ) from error
        log.info("listening on %s:%d", host, port)
        reader, writer = await connected
        listening.close()
        await converse(mercury, reader, wire.StreamWriter(writer))

    return _end(mercury, listen())


def serve_pipe(
    path: str, config: Config | None = None, *, client_process_id: int | None = None
) -> int:
    """Connect to the named pipe or Unix socket on which an editor listens. Raises SettingsError."""
    mercury = _make(config, client_process_id)

    async def connect() -> None:
        try:
            reader, writer = await _open_pipe(path)
        except OSError as error:
            raise SettingsError(
                f"There is no editor at the pipe {path} ({error.strerror or error}).",
                "Editors pass --pipe by themselves; by hand, use --stdio or --tcp.",
            ) from error
        await converse(mercury, reader, wire.StreamWriter(writer))

    return _end(mercury, connect())


async def converse(
    mercury: Mercury, stream: asyncio.StreamReader, writer: wire.FileWriter | wire.StreamWriter
) -> None:
    """Serve one editor until it says goodbye, is gone or dies."""
    protocol = mercury.server.protocol
    protocol.set_writer(writer)  # type: ignore[arg-type]
    asyncio.get_running_loop().set_exception_handler(_report)

    async def listen() -> None:
        try:
            while (body := await wire.read_message(stream)) is not None:
                protocol.receive(body)
                # A request sees the documents as they are now, before the next message is handled.
                await asyncio.sleep(0)
        finally:
            protocol.over.set()

    listening = asyncio.create_task(listen())
    await protocol.over.wait()
    listening.cancel()
    mercury.close()
    await writer.close()


def _make(config: Config | None, client_process_id: int | None) -> Mercury:
    where = surroundings()
    models = model_store(where.cache_dir, offline=where.offline)
    return make_server(config or Config(), models, client_process_id=client_process_id)


def _end(mercury: Mercury, serving: Coroutine[Any, Any, None]) -> int:
    """Serve to the end: the exit code. A step that does not end in time ends with the process."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serving)
    code = 0 if mercury.server.protocol.ended_well else 1
    mercury.close()
    if not mercury.join(STEP_SECONDS):
        logging.shutdown()
        os._exit(code)
    return code


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in the loop; asyncio would log arguments and messages with it."""
    error = context.get("exception")
    log.error("in the event loop: %s", describe(error) if error else context.get("message"))


async def _open_pipe(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if sys.platform != "win32":
        return await asyncio.open_unix_connection(path)
    loop: Any = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_pipe_connection(lambda: protocol, path)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
