"""The model's side of the server: loading it, and what it is asked. Runs on the worker's thread.

Knows no protocol. `state` may be read from any thread; everything else belongs to the worker's.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mercury_lsp.backend import Backend, limits
from mercury_lsp.config import Config
from mercury_lsp.core import engine
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.types import Completion, Request, Trigger
from mercury_lsp.lsp.statistics import Timing
from mercury_model import infill
from mercury_model.errors import ModelError, WeightsMissing
from mercury_model.models import LoadedModel

log = logging.getLogger(__name__)

Load = Callable[[str, int], LoadedModel]
"""Loads a model by name with a number of threads; an argument, so that tests bring their own."""

_FOREVER_NS = 1 << 62


class State(StrEnum):
    """What the server can do now; the words of the `mercury/status` notification."""

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


class Session:
    """One model, its contexts, and the completions that were made with it."""

    def __init__(self, config: Config, load: Load, clock: Callable[[], int]) -> None:
        self.config = config
        self.status = Status(State.LOADING)
        self.model: dict[str, str] | None = None
        self.languages: frozenset[str] = frozenset()
        self._load = load
        self._clock = clock
        self._timing: Timing | None = None

    def load(self) -> Status:
        """Make the configured model ready. Never raises for weights: the status says what is up."""
        self.model = None
        try:
            loaded = self._load(self.config.model, self.config.threads)
            self._backend = Backend(loaded, self.config, self._saw)
            self._rules = engine.Rules(
                limits(loaded.card), self.config.min_confidence, self.config.alternatives
            )
            self._cache = CompletionCache(self.config.cache_entries)
            self.languages = frozenset(loaded.card.infill.languages)
            self.model = {"name": loaded.card.name, "runtime": loaded.runtime.name}
            self.status = Status(State.READY, f"{loaded.card.name}, {loaded.runtime.name}")
            log.info("ready: %s", self.status.message)
        except WeightsMissing as error:
            self.status = Status(State.MISSING, str(error))
        except ModelError as error:
            self.status = Status(State.ERROR, str(error))
            log.error("%s", error)
        return self.status

    def configure(self, config: Config) -> bool:
        """Take over new settings; whether the model has to be loaded again for them."""
        was, self.config = self.config, config
        if self.status.state is not State.READY:
            return was.model != config.model
        loading = ("model", "threads", "context_megabytes")
        if any(getattr(was, name) != getattr(config, name) for name in loading):
            return True
        self._backend.configure(config)
        self._rules = engine.Rules(self._rules.limits, config.min_confidence, config.alternatives)
        self._cache = CompletionCache(config.cache_entries)
        return False

    def complete(
        self, request: Request, timing: Timing, stopped: Callable[[], bool]
    ) -> list[Completion]:
        """What to offer, best first; as many as the trigger deserves."""
        budget = Budget(timing.deadline_ns, self._clock, stopped)
        self._timing = timing
        timing.begin()
        try:
            if request.trigger is Trigger.INVOKED:
                return engine.alternatives(
                    request, self._backend.infill, self._cache, budget, self._rules, timing.mark
                )
            found = engine.complete(
                request, self._backend.infill, self._cache, budget, self._rules, timing.mark
            )
            return [] if found is None else [found]
        finally:
            self._timing = None

    def prefill(self, request: Request, stopped: Callable[[], bool]) -> bool:
        """Read what surrounds a cursor, as long as nobody asks; whether all of it is read."""
        if self.status.state is not State.READY:
            return True
        budget = Budget(_FOREVER_NS, self._clock, stopped)
        return engine.prefill(request, self._backend.prefill, budget, self._rules)

    def _saw(self, draft: infill.Draft) -> None:
        if self._timing is not None:
            self._timing.saw(
                prefill=draft.prefill,
                steps=draft.steps,
                tokens=sum(draft.settled),
                finished=draft.finished,
            )
