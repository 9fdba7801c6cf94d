"""Getting the model ready: loading with progress, and what happens while its weights are missing.

Lives on the loop thread. The network is used only after the user pressed Download.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from mercury_lsp.config import Config
from mercury_lsp.lsp.completer import Completer
from mercury_lsp.lsp.progress import progress
from mercury_lsp.lsp.protocol import Server
from mercury_lsp.lsp.status import State, Status
from mercury_lsp.service import ModelService, ModelSettings, ModelStore, ServiceClosed
from mercury_model.errors import ModelError, PullFailed, WeightsCorrupted, WeightsMissing
from mercury_model.serving import EngineLimits

log = logging.getLogger(__name__)

DOWNLOAD, NOT_NOW = "Download", "Not now"
LOOK_AGAIN_NS = 3_000_000_000
"""How often a server without weights looks whether they have arrived, in nanoseconds."""


class Weights:
    """Keeps the configured model loaded in the service.

    `completer` completes with it, and is None while it is not ready.
    """

    def __init__(
        self,
        server: Server,
        service: ModelService,
        store: ModelStore,
        clock: Callable[[], int],
    ) -> None:
        self.status = Status(State.LOADING)
        self.completer: Completer | None = None
        self._server = server
        self._service = service
        self._store = store
        self._clock = clock
        self._config = Config()
        self._configured = False
        self._loaded: ModelSettings | None = None
        self._listeners: list[Callable[[], None]] = []
        self._looked_ns = 0
        self._stamp: object = None
        self._said: set[str] = set()
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def when_ready(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a model has been loaded."""
        self._listeners.append(listener)

    def ready(self) -> Completer | None:
        """The completer, if the model is ready. Looks now and then for weights that arrived."""
        if self.status.state in (State.MISSING, State.ERROR) and self._is_time_to_look():
            stamp = self._store.stamp(self._config.model)
            if stamp is not None and stamp != self._stamp:
                self._start(self._load())
        return self.completer

    def configure(self, config: Config) -> None:
        """Apply settings, the first ones too, and load the model they name in the background.

        Editors often send the same settings again.
        """
        if self._configured and config == self._config:
            return
        self._config, self._configured = config, True
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
        except ServiceClosed:  # the server is ending
            pass
        except Exception as error:  # the boundary of work that no request waits for
            self._server.report(error)

    async def _configure(self) -> None:
        async with self._changing:
            wanted = _model_settings(self._config)
            if wanted is None:
                self.completer = self._loaded = None
                self._become(Status(State.OFF))
                await asyncio.wrap_future(self._service.unload())
                return
            if self._has(wanted):
                assert self.completer is not None
                self.completer = self.completer.configured(self._config)
                return
        await self._load()

    def _has(self, wanted: ModelSettings) -> bool:
        return self.completer is not None and wanted == self._loaded

    async def _load(self) -> None:
        async with self._changing:
            wanted = _model_settings(self._config)
            if wanted is None or self._has(wanted):
                return
            self._stamp = self._store.stamp(wanted.name)
            self.completer = None
            self._become(Status(State.LOADING, wanted.name))
            loading = asyncio.ensure_future(self._load_model(wanted))
            async with progress(self._server, f"Loading {wanted.name}"):
                status = await loading
            self._looked_ns = self._clock()
            self._become(status)
        if status.state is State.READY:
            for listener in self._listeners:
                listener()
        elif status.message not in self._said:
            self._said.add(status.message)
            await self._tell(status)

    async def _load_model(self, wanted: ModelSettings) -> Status:
        """Load a model; the status says what is wrong with its weights."""
        try:
            info = await asyncio.wrap_future(self._service.load(wanted))
        except (WeightsMissing, WeightsCorrupted) as error:
            return Status(State.MISSING, str(error))
        except ModelError as error:
            return Status(State.ERROR, str(error))
        except ServiceClosed:
            raise
        except Exception as error:  # a broken installation: anything may come out of a library
            self._server.report(error)
            what = f"{wanted.name} could not be loaded ({type(error).__name__})."
            return Status(State.ERROR, f"{what} Run: mercury-lsp doctor.")
        assert info is not None
        self._loaded = wanted
        self.completer = Completer(self._service, info, self._config, self._clock)
        return Status(State.READY, f"{info.card.name}, {info.runtime}")

    def _become(self, status: Status) -> None:
        self.status = status
        log.info("%s: %s", status.state.value, status.message)
        experimental = self._server.client_capabilities.experimental
        if isinstance(experimental, dict) and experimental.get("mercuryStatus"):
            info = self._service.info if self.completer is not None else None
            fields = {
                "state": status.state.value,
                "message": status.message,
                "model": info and info.card.name,
            }
            self._server.protocol.notify("mercury/status", fields)

    async def _tell(self, status: Status) -> None:
        """Show what is wrong, with a button where a download would repair it."""
        if status.state is not State.MISSING or not self._store.has_download(self._config.model):
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
        name, loop = self._config.model, asyncio.get_running_loop()
        try:
            async with progress(self._server, f"Downloading {name}") as report:

                def tell(done: int, size: int) -> None:
                    loop.call_soon_threadsafe(report, 100 * done // max(1, size))

                await _on_a_thread(lambda: self._store.pull(name, tell))
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


def _model_settings(config: Config) -> ModelSettings | None:
    """The model that a config asks for; None if it asks for none."""
    if not config.enable:
        return None
    limits = EngineLimits(context_bytes=config.context_megabytes << 20)
    return ModelSettings(config.model, config.threads, limits)
