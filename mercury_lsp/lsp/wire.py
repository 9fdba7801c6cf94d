"""Messages on a byte stream (LSP 3.18, "Base Protocol"), and the ends of such a stream.

Knows headers, not their content.
"""

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

LIMIT_BYTES = 512 << 20
"""A longer message is refused."""

FLUSH_SECONDS = 2.0
"""How long to wait until the last answers are written."""

_CHUNK_BYTES = 1 << 16


async def read_message(stream: asyncio.StreamReader) -> bytes | None:
    """The content of the next message; None at the end of the stream or if it cannot be read.

    Lines that are no headers are skipped.
    """
    length: int | None = None
    try:
        while True:
            line = await _line(stream)
            if not line.endswith(b"\n"):
                return None
            name, _, value = line.strip().partition(b":")
            if name.lower() == b"content-length" and value.strip().isdigit():
                length = int(value) if len(value) < 20 else LIMIT_BYTES + 1
            elif not name and length is not None:
                break
        if length > LIMIT_BYTES:
            log.error("a message of %d bytes is too long; the connection is closed", length)
            return None
        return await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:  # longer than any header, and dropped by the stream
        return b"\n"


def read_file(descriptor: int) -> asyncio.StreamReader:
    """A stream over a file, pipe or terminal, which a thread of its own reads.

    No other way works for all of these on every system. The thread may be blocked for good, so it
    is a daemon, and it uses no buffer whose lock it would hold when the process ends.
    """
    loop, stream = asyncio.get_running_loop(), asyncio.StreamReader()

    def pump() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            with contextlib.suppress(OSError):
                while chunk := os.read(descriptor, _CHUNK_BYTES):
                    loop.call_soon_threadsafe(stream.feed_data, chunk)
            loop.call_soon_threadsafe(stream.feed_eof)

    threading.Thread(target=pump, name="reader", daemon=True).start()
    return stream


class FileWriter:
    """Writes to a file on a thread of its own, so an editor that does not read blocks nothing.

    `lost` is called on the loop when the reader is gone.
    """

    def __init__(self, descriptor: int, lost: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Send `data` soon."""
        self._queue.put(data)

    async def close(self) -> None:
        """Wait until all is sent, or `FLUSH_SECONDS`."""
        self._queue.put(None)
        self._thread.join(FLUSH_SECONDS)

    def _run(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._lost)


class StreamWriter:
    """Writes to a socket or a named pipe."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Send `data` soon, unless the other side is gone."""
        if not self._stream.is_closing():
            self._stream.write(data)

    async def close(self) -> None:
        """Wait until all is sent, or `FLUSH_SECONDS`."""
        self._stream.close()
        with contextlib.suppress(OSError):
            await asyncio.wait_for(self._stream.wait_closed(), FLUSH_SECONDS)
