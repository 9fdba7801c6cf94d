"""Work-done progress, for clients that show it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from mercury_lsp.lsp.protocol import ANSWER_SECONDS, Server

Report = Callable[[int], None]
"""Called on the loop with a percentage."""


@asynccontextmanager
async def progress(server: Server, title: str) -> AsyncIterator[Report]:
    """Show progress while the block runs."""
    token = await _token(server)
    if token is None:
        yield lambda percent: None
        return
    shown = server.work_done_progress
    shown.begin(token, lsp.WorkDoneProgressBegin(title=title, percentage=0, cancellable=False))
    try:
        yield lambda percent: shown.report(token, lsp.WorkDoneProgressReport(percentage=percent))
    finally:
        shown.end(token, lsp.WorkDoneProgressEnd())


async def _token(server: Server) -> str | None:
    """The token of a new progress report; None if the client cannot show it."""
    window = server.client_capabilities.window
    if window is None or not window.work_done_progress:
        return None
    token = str(uuid.uuid4())
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await server.work_done_progress.create_async(token)
    except (TimeoutError, JsonRpcException):
        return None
    return token
