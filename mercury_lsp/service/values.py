"""What clients exchange with the service: settings, options and facts. Data only."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from mercury_model.decoding.prompt import PromptTokenizer
from mercury_model.load import LoadedModel
from mercury_model.serving import EngineLimits, Priority
from mercury_model.spec.card import ModelCard

Load: TypeAlias = Callable[[str, int], LoadedModel]
"""Loads a model by name, for a number of CPU threads."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told the stage, how much of it is done, and out of how much."""


class Superseded(Exception):
    """A newer request took this one's place, or its client was closed."""


class ServiceClosed(RuntimeError):
    """The service takes no more requests."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model to load, for how many CPU threads (0: one per core), and how much it may hold."""

    name: str
    threads: int = 0
    limits: EngineLimits = field(default_factory=EngineLimits)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What clients know of the loaded model. Everything in it may be used from any thread."""

    card: ModelCard
    tokenizer: PromptTokenizer
    runtime: str


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """How a request is served.

    No step begins after `deadline_ns` on the service's clock, nor once `stopped` returns true; the
    service's thread calls it before each step. A newer request with the same `key` supersedes an
    older one. `client` names the requests that `ModelService.cancel` ends together.
    """

    priority: Priority = Priority.BULK
    deadline_ns: int | None = None
    client: Hashable = None
    key: Hashable = None
    stopped: Callable[[], bool] = lambda: False

    def ended(self, now_ns: int) -> bool:
        """Whether no further step may begin."""
        return self.stopped() or (self.deadline_ns is not None and self.deadline_ns <= now_ns)
