"""Getting the model ready: loading with progress, and what happens while its weights are missing.

Lives on the loop thread. The network is used only after the user pressed Download.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from mercury_lsp.config import Config
from mercury_lsp.lsp.progress import progress
from mercury_lsp.lsp.protocol import Server
from mercury_lsp.lsp.session import Load, Session, State, Status
from mercury_lsp.lsp.worker import Superseded, Worker
from mercury_model.errors import ModelError, PullFailed
from mercury_model.weights.sources import Progress

log = logging.getLogger(__name__)

DOWNLOAD, NOT_NOW = "Download", "Not now"
LOOK_AGAIN_NS = 3_000_000_000
"""How often a server without weights looks whether they have arrived, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Where models are kept; an argument, so that tests bring their own.

    `stamp` is None while a model's weights are not here, and another value whenever they change.
    """

    load: Load
    stamp: Callable[[str], object]
    pull: Callable[[str, Progress], object]


def model_store(cache_dir: Path, *, offline: bool) -> ModelStore:
    """The models of the cache folder. What is heavy is imported when it is needed."""

    def load(name: str, threads: int) -> Any:
        from mercury_model.load import load

        return load(name, cache_dir=cache_dir, threads=threads)

    def stamp(name: str) -> object:
        from mercury_model.weights import registry

        try:
            base = registry.find(name).base
            if base is None:
                return name
            there = (cache_dir / base.file).stat()
        except (ModelError, OSError):
            return None
        return there.st_mtime_ns, there.st_size

    def pull(name: str, progress: Progress) -> object:
        from mercury_model.weights import registry

        return registry.pull(name, cache_dir=cache_dir, offline=offline, progress=progress)

    return ModelStore(load, stamp, pull)


class Weights:
    """Keeps the session supplied with the configured model; `arrived` is called when it is."""

    def __init__(
        self,
        server: Server,
        worker: Worker,
        session: Session,
        model_store: ModelStore,
        clock: Callable[[], int],
        arrived: Callable[[], None],
    ) -> None:
        self.status = Status(State.LOADING)
        self._server = server
        self._worker = worker
        self._session = session
        self._shelf = model_store
        self._clock = clock
        self._arrived = arrived
        self._taken_over: Config | None = None
        self._looked_ns = 0
        self._stamp: object = None
        self._said: set[str] = set()
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def ready(self) -> bool:
        """Whether the model can be asked; looks from time to time for weights that arrived."""
        if self.status.state in (State.MISSING, State.ERROR) and self._is_time_to_look():
            stamp = self._shelf.stamp(self._session.config.model)
            if stamp is not None and stamp != self._stamp:
                self._start(self._load())
        return self.status.state is State.READY

    def configure(self, config: Config) -> None:
        """Take over settings, the first ones too, and load what they ask for in the background.

        Editors like to send what they have sent before.
        """
        if config == self._taken_over:
            return
        self._session.config = self._taken_over = config
        self._start(self._configure())

    def _is_time_to_look(self) -> bool:
        now = self._clock()
        if now - self._looked_ns < LOOK_AGAIN_NS:
            return False
        self._looked_ns = now
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)  # a task that nobody holds may be collected before it ends
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Superseded:  # the server is ending
            pass
        except Exception as error:  # the boundary of work that no request waits for
            self._server.report(error)

    async def _configure(self) -> None:
        must_load = await self._worker.submit(self, lambda stopped: self._session.configure())
        if must_load:
            await self._load()
        elif not self._session.config.enable:
            self._become(Status(State.OFF))

    async def _load(self) -> None:
        async with self._changing:
            name = self._session.config.model
            self._stamp = self._shelf.stamp(name)
            self._become(Status(State.LOADING, name))
            loading = asyncio.ensure_future(self._loaded())
            async with progress(self._server, f"Loading {name}"):
                status = await loading
            self._looked_ns = self._clock()
            self._become(status)
        if status.state is State.READY:
            self._arrived()
        elif status.state is not State.OFF and status.message not in self._said:
            self._said.add(status.message)
            await self._tell(status)

    async def _loaded(self) -> Status:
        try:
            return await self._worker.submit("load", lambda stopped: self._session.load())
        except Superseded:
            raise
        except Exception as error:  # a broken installation: anything may come out of a library
            self._server.report(error)
            name = self._session.config.model
            what = f"{name} could not be loaded ({type(error).__name__})."
            return Status(State.ERROR, f"{what} Run: mercury-lsp doctor.")

    def _become(self, status: Status) -> None:
        self.status = status
        log.info("%s: %s", status.state.value, status.message)
        experimental = self._server.client_capabilities.experimental
        if isinstance(experimental, dict) and experimental.get("mercuryStatus"):
            model = self._session.model
            fields = {
                "state": status.state.value,
                "message": status.message,
                "model": model and model.name,
            }
            self._server.protocol.notify("mercury/status", fields)

    async def _tell(self, status: Status) -> None:
        """Say what is wrong, with a button where a download would mend it."""
        if status.state is not State.MISSING:
            log.error(status.message)
            self._show(lsp.MessageType.Error, status.message)
            return
        log.warning(status.message)
        actions = [lsp.MessageActionItem(DOWNLOAD), lsp.MessageActionItem(NOT_NOW)]
        question = lsp.ShowMessageRequestParams(
            lsp.MessageType.Warning, f"mercury: {status.message}", actions
        )
        try:
            answer = await self._server.window_show_message_request_async(question)
        except JsonRpcException:  # a client without buttons
            return
        if answer is not None and answer.title == DOWNLOAD:
            await self._download()

    async def _download(self) -> None:
        name, loop = self._session.config.model, asyncio.get_running_loop()
        try:
            async with progress(self._server, f"Downloading {name}") as report:

                def tell(done: int, size: int) -> None:
                    loop.call_soon_threadsafe(report, 100 * done // max(1, size))

                await _on_a_thread(lambda: self._shelf.pull(name, tell))
        except PullFailed as error:
            self._show(lsp.MessageType.Error, str(error))
            return
        await self._load()

    def _show(self, kind: lsp.MessageType, message: str) -> None:
        self._server.window_show_message(lsp.ShowMessageParams(kind, f"mercury: {message}"))


async def _on_a_thread(job: Callable[[], object]) -> None:
    """Run `job` on a thread that does not keep the process alive when the editor is gone."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def resolve(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error = None
        try:
            job()
        except Exception as caught:  # handed on to who awaits
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(resolve, error)

    threading.Thread(target=run, name="download", daemon=True).start()
    await done
