"""`ModelServices`: one service for each model of a process, however many share it."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mercury_lsp.service.model_service import ModelService
from mercury_lsp.service.values import Load, ModelInfo, ModelSettings
from mercury_model.load import LoadedModel
from mercury_model.serving import EngineLimits

if TYPE_CHECKING:
    from concurrent.futures import Future

_Key: TypeAlias = tuple[str, int] | int
"""A name with a number of threads, or the identity of a runtime that is loaded already."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A service, the number of those who share it, and the widest of their limits."""

    service: ModelService
    settings: ModelSettings
    users: int = 0


class ServiceLease:
    """The right to use a service, until it is closed. The last one to close it ends the service."""

    def __init__(self, pool: "ModelServices", key: _Key, entry: _Entry) -> None:
        self._pool = pool
        self._key = key
        self._entry = entry
        self._closed = False

    @property
    def service(self) -> ModelService:
        """The service, whose model may have to be loaded yet."""
        return self._entry.service

    def load(self) -> "Future[ModelInfo | None]":
        """Load the model unless it is loaded already."""
        return self._entry.service.load(self._entry.settings)

    def close(self) -> None:
        """Give the right back."""
        if not self._closed:
            self._closed = True
            self._pool.give_back(self._key)


class ModelServices:
    """The services of a process. Those who ask for the same model share one, with its memory.

    Limits may differ between them; the service holds as much as the widest limits allow.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._entries: dict[_Key, _Entry] = {}

    def acquire(
        self, model: str | Path | LoadedModel, threads: int, limits: EngineLimits
    ) -> ServiceLease:
        """The service for a model: a name, a folder, or a model that is loaded already."""
        if isinstance(model, str | Path):
            name, load = str(model), self._load
            key: _Key = (name, threads)
        else:
            # The entry keeps the runtime alive, so no other one can have its identity.
            key, name = id(model.runtime), model.card.name

            def load(name: str, threads: int, loaded: LoadedModel = model) -> LoadedModel:
                return loaded

        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = _Entry(ModelService(load), ModelSettings(name, threads, limits))
                self._entries[key] = entry
            entry.users += 1
            widest = _widest(entry.settings.limits, limits)
            entry.settings = replace(entry.settings, limits=widest)
            return ServiceLease(self, key, entry)

    def give_back(self, key: _Key) -> None:
        """One user less; the last one ends the service."""
        with self._lock:
            entry = self._entries[key]
            entry.users -= 1
            if entry.users:
                return
            del self._entries[key]
        entry.service.close()


def _widest(one: EngineLimits, other: EngineLimits) -> EngineLimits:
    return replace(
        one,
        requests=max(one.requests, other.requests),
        context_bytes=max(one.context_bytes, other.context_bytes),
    )
