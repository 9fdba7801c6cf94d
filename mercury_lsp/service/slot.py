"""`ModelSlot`: the place of the one loaded model, which only the service's thread uses."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from mercury_lsp.service.values import Load, ModelInfo, ModelSettings, Progress
from mercury_model.serving import Engine


def unseen(_stage: str, _done: int, _total: int) -> None:
    """Nobody looks at the progress."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadRequest:
    """What to load; None unloads."""

    settings: ModelSettings | None
    progress: Progress = unseen
    future: Future[ModelInfo | None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model in its engine."""

    settings: ModelSettings
    engine: Engine
    info: ModelInfo


class ModelSlot:
    """Holds at most one model.

    `failure` says why there is none; `requests` are the loads that wait.
    """

    def __init__(self, load: Load, clock: Callable[[], int]) -> None:
        self.loaded: Loaded | None = None
        self.failure: Exception = RuntimeError("no model is loaded")
        self.requests: deque[LoadRequest] = deque()
        self._load = load
        self._clock = clock

    def replaces(self, request: LoadRequest) -> bool:
        """Whether a request takes the loaded model away."""
        loaded, wanted = self.loaded, request.settings
        if loaded is None or wanted is None:
            return loaded is not None
        return (loaded.settings.name, loaded.settings.threads) != (wanted.name, wanted.threads)

    def serve_next(self) -> None:
        """Do what the first request asks for."""
        request = self.requests.popleft()
        if not request.future.set_running_or_notify_cancel():
            return
        try:
            self._serve(request)
        except Exception as error:  # a broken installation: anything may come out of a library
            self.failure = error
            request.future.set_exception(error)
        else:
            request.future.set_result(None if self.loaded is None else self.loaded.info)

    def clear(self, failure: Exception) -> None:
        """Free the model."""
        self.loaded, self.failure = None, failure

    def _serve(self, request: LoadRequest) -> None:
        settings, loaded = request.settings, self.loaded
        if settings is None:
            self.clear(RuntimeError("no model is loaded"))
            return
        if loaded is not None and not self.replaces(request):
            loaded.engine.set_limits(settings.limits)
            self.loaded = Loaded(settings, loaded.engine, loaded.info)
            return
        self.loaded = loaded = None  # two models may not fit into memory at once
        request.progress("loading", 0, 1)
        model = self._load(settings.name, settings.threads)
        info = ModelInfo(model.card, model.tokenizer, model.runtime.name)
        engine = Engine(model.card, model.tokenizer, model.runtime, settings.limits, self._clock)
        self.loaded = Loaded(settings, engine, info)
        request.progress("loading", 1, 1)
