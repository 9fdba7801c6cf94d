"""Ending with the editor: a server whose parent died would wait for its input for ever."""

import asyncio
import logging
import os

import psutil

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the parent is looked for; a look costs microseconds."""

_watched: set["asyncio.Task[None]"] = set()


def watch(process_id: int) -> None:
    """End this process, with exit code 1, soon after `process_id` has ended."""
    task = asyncio.get_running_loop().create_task(_watch(process_id))
    _watched.add(task)
    task.add_done_callback(_watched.discard)


async def _watch(process_id: int) -> None:
    try:
        parent = psutil.Process(process_id)
    except psutil.NoSuchProcess:
        parent = None
    # A recycled process id belongs to another process: psutil compares the time of its start.
    while parent is not None and parent.is_running():
        await asyncio.sleep(LOOK_SECONDS)
    log.warning("the editor's process %d has ended", process_id)
    # The thread that reads standard input cannot be interrupted, so nothing gentler would end it.
    os._exit(1)
