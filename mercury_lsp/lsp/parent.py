"""Ends the server with its editor. Without a parent it would wait for input for ever."""

import asyncio
import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable

import psutil

log = logging.getLogger(__name__)


def watch(process_id: int, ended: Callable[[], None]) -> None:
    """Call `ended` on this loop when a process has ended; at once if it does not exist."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        try:
            _wait_for(process_id)
        except (OSError, psutil.Error) as error:
            log.warning("the editor's process %d cannot be watched (%s)", process_id, error)
            return
        log.warning("the editor's process %d has ended", process_id)
        with contextlib.suppress(RuntimeError):  # the loop has ended, too
            loop.call_soon_threadsafe(ended)

    if process_id > 0:
        threading.Thread(target=wait, name="parent", daemon=True).start()


def _wait_for(process_id: int) -> None:
    """Sleep until a process has ended, without polling where the system supports it."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox without it
            _wait_for_handle(process_id)
            return
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(process_id).wait()


def _wait_for_handle(process_id: int) -> None:
    try:
        handle = os.pidfd_open(process_id)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
    finally:
        os.close(handle)
