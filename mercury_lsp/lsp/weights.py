"""Getting the model ready: loading with progress, and what happens while its weights are missing.

Lives on the loop thread. The network is used only after the user pressed Download.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp

from mercury_lsp.config import Config
from mercury_lsp.lsp.protocol import Server
from mercury_lsp.lsp.session import Load, Session, State, Status
from mercury_lsp.lsp.worker import Superseded, Worker
from mercury_model.errors import PullFailed
from mercury_model.sources import Progress

log = logging.getLogger(__name__)

DOWNLOAD, NOT_NOW = "Download", "Not now"
LOOK_AGAIN_NS = 3_000_000_000
"""How often a server without weights looks whether they have arrived, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where models are kept; an argument, so that tests bring their own."""

    load: Load
    is_available: Callable[[str], bool]
    pull: Callable[[str, Progress], object]


def shelf(cache_dir: Path, *, offline: bool) -> Shelf:
    """The models of the cache folder. What is heavy is imported when it is needed."""

    def load(name: str, threads: int) -> Any:
        from mercury_model import models

        return models.load(name, cache_dir=cache_dir, threads=threads)

    def is_available(name: str) -> bool:
        from mercury_model import models

        return models.is_available(name, cache_dir)

    def pull(name: str, progress: Progress) -> object:
        from mercury_model import models

        return models.pull(name, cache_dir=cache_dir, offline=offline, progress=progress)

    return Shelf(load, is_available, pull)


class Weights:
    """Keeps the session supplied with the configured model."""

    def __init__(
        self,
        server: Server,
        session: Session,
        worker: Worker,
        shelf: Shelf,
        clock: Callable[[], int],
    ) -> None:
        self._server = server
        self._session = session
        self._worker = worker
        self._shelf = shelf
        self._clock = clock
        self._looked_ns = 0
        self._said: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def ready(self) -> bool:
        """Whether the model can be asked; looks from time to time for weights that arrived."""
        state = self._session.status.state
        if state is State.MISSING and self._clock() - self._looked_ns >= LOOK_AGAIN_NS:
            self._looked_ns = self._clock()
            if self._shelf.is_available(self._session.config.model):
                self.start_loading()
        return state is State.READY

    def start_loading(self) -> None:
        """Load the configured model in the background."""
        self._become(Status(State.LOADING, self._session.config.model))
        self._start(self._load())

    def configure(self, config: Config) -> None:
        """Take over new settings, in the background."""
        self._start(self._configure(config))

    def _start(self, task: Any) -> None:
        running = asyncio.ensure_future(task)
        self._tasks.add(running)  # a task that nobody holds may be collected before it ends
        running.add_done_callback(self._tasks.discard)

    async def _configure(self, config: Config) -> None:
        if await self._worker.submit(self, lambda stopped: self._session.configure(config)):
            self.start_loading()

    async def _load(self) -> None:
        token = await self._begin_progress(f"Loading {self._session.config.model}")
        try:
            status = await self._worker.submit(self, lambda stopped: self._session.load())
        except Superseded:
            return  # the settings changed meanwhile: another load is on its way
        finally:
            self._end_progress(token)
        self._become(status)
        self._looked_ns = self._clock()
        if status.message in self._said:
            return
        if status.state is State.MISSING:
            self._said.add(status.message)
            await self._offer_download(status.message)
        elif status.state is State.ERROR:
            self._said.add(status.message)
            self._show(lsp.MessageType.Error, status.message)

    def _become(self, status: Status) -> None:
        self._session.status = status
        experimental = self._server.client_capabilities.experimental
        if isinstance(experimental, dict) and experimental.get("mercuryStatus"):
            fields = {"state": status.state.value, "message": status.message}
            self._server.protocol.notify("mercury/status", fields)

    async def _offer_download(self, message: str) -> None:
        actions = [lsp.MessageActionItem(DOWNLOAD), lsp.MessageActionItem(NOT_NOW)]
        answer = await self._server.window_show_message_request_async(
            lsp.ShowMessageRequestParams(lsp.MessageType.Warning, f"mercury: {message}", actions)
        )
        if answer is not None and answer.title == DOWNLOAD:
            await self.download()

    async def download(self) -> None:
        """Fetch the configured model, showing progress, and load it."""
        name = self._session.config.model
        token = await self._begin_progress(f"Downloading {name}")
        loop = asyncio.get_running_loop()

        def report(done: int, size: int) -> None:
            percent = 100 * done // size if size else 0
            loop.call_soon_threadsafe(self._report_progress, token, percent)

        try:
            await _on_a_thread(lambda: self._shelf.pull(name, report))
        except PullFailed as error:
            self._show(lsp.MessageType.Error, str(error))
            return
        finally:
            self._end_progress(token)
        self.start_loading()

    def _show(self, kind: lsp.MessageType, message: str) -> None:
        self._server.window_show_message(lsp.ShowMessageParams(kind, f"mercury: {message}"))

    async def _begin_progress(self, title: str) -> str | None:
        window = self._server.client_capabilities.window
        if window is None or not window.work_done_progress:
            return None
        token = str(uuid.uuid4())
        progress = self._server.work_done_progress
        await progress.create_async(token)
        begin = lsp.WorkDoneProgressBegin(title=title, percentage=0, cancellable=False)
        progress.begin(token, begin)
        return token

    def _report_progress(self, token: str | None, percent: int) -> None:
        if token is not None:
            report = lsp.WorkDoneProgressReport(percentage=percent)
            self._server.work_done_progress.report(token, report)

    def _end_progress(self, token: str | None) -> None:
        if token is not None:
            self._server.work_done_progress.end(token, lsp.WorkDoneProgressEnd())


async def _on_a_thread(job: Callable[[], object]) -> None:
    """Run `job` on a thread that does not keep the process alive when the editor is gone."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def resolve(error: Exception | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        error = None
        try:
            job()
        except Exception as caught:  # handed on to who awaits
            error = caught
        loop.call_soon_threadsafe(resolve, error)

    threading.Thread(target=run, name="download", daemon=True).start()
    await done
