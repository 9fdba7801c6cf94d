"""The model's side of the server: loading it, and what it is asked. Runs on the worker's thread.

Knows no protocol. `config`, `model` and `languages` may be read from any thread.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from mercury_lsp.backend.infill import Backend, limits
from mercury_lsp.config import Config
from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Completion, Context, Draft, Request, Trigger
from mercury_lsp.lsp.statistics import Timing
from mercury_model.decoding.output import PartialOutput
from mercury_model.errors import ModelError, WeightsCorrupted, WeightsMissing
from mercury_model.load import LoadedModel

log = logging.getLogger(__name__)

Load = Callable[[str, int], LoadedModel]
"""Loads a model by name with a number of threads; an argument, so that tests bring their own."""

_FOREVER_NS = 1 << 62


class State(StrEnum):
    """What the server can do now; the words of the `mercury/status` notification.

    Missing weights are mended by a download; what an error needs is in its message.
    """

    OFF = "off"
    LOADING = "loading"
    READY = "ready"
    MISSING = "missing"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Status:
    """A state, and what to say of it: which model runs, or what is wrong and mends it."""

    state: State
    message: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """What runs, for people."""

    name: str
    runtime: str
    languages: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model with everything that is of use only with it."""

    backend: Backend
    limits: Limits
    cache: CompletionCache


class Session:
    """One model, its contexts, and the completions that were made with it."""

    def __init__(self, config: Config, load: Load, clock: Callable[[], int]) -> None:
        self.config = config
        self.model: Model | None = None
        self._load = load
        self._clock = clock
        self._loaded: _Loaded | None = None
        self._loaded_for: tuple[object, ...] | None = None
        self._timing: Timing | None = None

    def configure(self) -> bool:
        """Take over `config` as it is now; whether `load` has to follow."""
        if _needs(self.config) != self._loaded_for:
            self._let_go()
            return self.config.enable
        if self._loaded is not None:
            backend, limits = self._loaded.backend, self._loaded.limits
            backend.configure(self.config)
            self._loaded = _Loaded(backend, limits, CompletionCache(self.config.cache_entries))
        return False

    def load(self) -> Status:
        """Make the configured model ready. What is wrong with its weights is in the status."""
        config = self.config
        if not config.enable:
            self._let_go()
            return Status(State.OFF)
        if self.model is None or _needs(config) != self._loaded_for:
            self._let_go()
            try:
                self._take(self._load(config.model, config.threads), config)
            except (WeightsMissing, WeightsCorrupted) as error:
                return Status(State.MISSING, str(error))
            except ModelError as error:
                return Status(State.ERROR, str(error))
        assert self.model is not None
        return Status(State.READY, f"{self.model.name}, {self.model.runtime}")

    def complete(
        self, request: Request, timing: Timing, stopped: Callable[[], bool]
    ) -> list[Completion]:
        """What to offer, best first; as many as the trigger deserves. Needs a loaded model."""
        timing.begin()
        if self._loaded is None:
            return []
        self._timing = timing
        try:
            found = self._ask(self._loaded, request, timing, stopped)
        finally:
            self._timing = None
        timing.end(bool(found) and all(completion.finished for completion in found))
        return found

    def prefill(self, request: Request, stopped: Callable[[], bool]) -> bool:
        """Read what surrounds a cursor, as long as nobody asks; whether all of it is read."""
        if self._loaded is None:
            return True
        budget = Budget(_FOREVER_NS, self._clock, stopped)
        return pipeline.prefill(request, self._loaded.backend.prefill, budget, self._rules())

    def look_ahead(
        self, request: Request, offered: Completion, stopped: Callable[[], bool]
    ) -> bool:
        """Make what follows `offered` once it is taken, as long as nobody asks; whether it is done.

        It is in the cache of completions by then.
        """
        if self._loaded is not None:
            pipeline.complete(
                pipeline.ahead(request, offered),
                self._loaded.backend.infill,
                self._loaded.cache,
                Budget(_FOREVER_NS, self._clock, stopped),
                self._rules(),
            )
        return not stopped()

    def _ask(
        self, loaded: _Loaded, request: Request, timing: Timing, stopped: Callable[[], bool]
    ) -> list[Completion]:
        budget = Budget(timing.deadline_ns, self._clock, stopped)
        infiller, cache, rules = self._infill, loaded.cache, self._rules()
        if request.trigger is Trigger.INVOKED:
            return pipeline.alternatives(request, infiller, cache, budget, rules, timing.mark)
        found = pipeline.complete(request, infiller, cache, budget, rules, timing.mark)
        return [] if found is None else [found]

    def _infill(self, context: Context, *, rank: int = 0) -> Iterator[Draft]:
        assert self._loaded is not None
        assert self._timing is not None
        self._timing.draft_begins()
        return self._loaded.backend.infill(context, rank=rank)

    def _rules(self) -> pipeline.CompletionPolicy:
        assert self._loaded is not None
        config = self.config
        return pipeline.CompletionPolicy(
            self._loaded.limits,
            config.min_confidence,
            config.distraction,
            config.alternatives,
        )

    def _take(self, loaded: LoadedModel, config: Config) -> None:
        backend, card = Backend(loaded, config, self._saw), loaded.card
        self._loaded = _Loaded(backend, limits(card), CompletionCache(config.cache_entries))
        self._loaded_for = _needs(config)
        self.model = Model(card.name, loaded.runtime.name, frozenset(card.infill.languages))

    def _let_go(self) -> None:
        self.model = self._loaded = self._loaded_for = None

    def _saw(self, draft: PartialOutput) -> None:
        if self._timing is not None:
            self._timing.saw(
                prefill=draft.prefill,
                steps=draft.steps,
                tokens=sum(draft.committed),
                finished=draft.finished,
            )


def _needs(config: Config) -> tuple[object, ...] | None:
    """What of the settings a loaded model depends on; None if there is to be none."""
    return (config.model, config.threads, config.context_megabytes) if config.enable else None
