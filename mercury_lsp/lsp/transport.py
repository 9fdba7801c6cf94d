"""How an editor is connected: standard input and output, a TCP port, or a named pipe."""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from typing import Any

from pygls.io_ import run_async

from mercury_lsp.config import Config, surroundings
from mercury_lsp.errors import SettingsError
from mercury_lsp.lsp.server import Mercury, make_server
from mercury_lsp.lsp.weights import shelf

log = logging.getLogger(__name__)

STEP_SECONDS = 2.0
"""How long an ending server waits for the model's last step."""


def serve_stdio(config: Config | None = None, *, client_process_id: int | None = None) -> int:
    """Serve over standard input and output."""
    mercury = _make(config, client_process_id)
    mercury.server.start_io()
    return _end(mercury)


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

        async with await asyncio.start_server(accept, host, port):
            await _serve(mercury, *await connected)

    try:
        _run(listen())
    except OSError as error:
        raise SettingsError(
            f"Nothing can listen on {host}:{port} ({error.strerror or error}).",
            "Choose another --tcp HOST:PORT.",
        ) from error
    return _end(mercury)


def serve_pipe(
    path: str, config: Config | None = None, *, client_process_id: int | None = None
) -> int:
    """Connect to the named pipe or Unix socket on which an editor listens. Raises SettingsError."""
    mercury = _make(config, client_process_id)

    async def connect() -> None:
        await _serve(mercury, *await _open_pipe(path))

    try:
        _run(connect())
    except OSError as error:
        raise SettingsError(
            f"There is no editor at the pipe {path} ({error.strerror or error}).",
            "Editors pass --pipe by themselves; by hand, use --stdio or --tcp.",
        ) from error
    return _end(mercury)


def _make(config: Config | None, client_process_id: int | None) -> Mercury:
    where = surroundings()
    models = shelf(where.cache_dir, offline=where.offline)
    return make_server(config or Config(), models, client_process_id=client_process_id)


def _end(mercury: Mercury) -> int:
    """The exit code; a step that does not end in time ends with the process instead."""
    code = 0 if mercury.server.protocol.ended_well else 1
    mercury.worker.close()
    if not mercury.worker.join(STEP_SECONDS):
        logging.shutdown()
        os._exit(code)
    return code


def _run(serving: Any) -> None:
    # pygls ends the process from inside its loop; the exit code is for `_end` to say.
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        asyncio.run(serving)


async def _serve(
    mercury: Mercury, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    protocol = mercury.server.protocol
    protocol.set_writer(_Writer(writer))
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await run_async(
            stop_event=threading.Event(),
            reader=reader,
            protocol=protocol,
            logger=log,
            error_handler=mercury.server.report_server_error,
        )


class _Writer:
    """A stream as pygls writes to it; closing is not waited for, since the process ends then."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def close(self) -> None:
        self._stream.close()


async def _open_pipe(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if sys.platform != "win32":
        return await asyncio.open_unix_connection(path)
    loop: Any = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_pipe_connection(lambda: protocol, path)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
