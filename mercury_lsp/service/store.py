"""`ModelStore`: where models come from. An argument of whoever loads them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mercury_lsp.service.values import Load
from mercury_model.errors import ModelError
from mercury_model.load import LoadedModel
from mercury_model.weights.sources import Progress


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Loads, watches and downloads models.

    `stamp` is None while a model's weights are not on this machine, and changes whenever they do.
    `pull` is the only use of the network.
    """

    load: Load
    stamp: Callable[[str], object]
    pull: Callable[[str, Progress], object]


def model_store(cache_dir: Path, *, offline: bool) -> ModelStore:
    """The models of the cache folder. Heavy modules are imported when they are needed."""

    def load(name: str, threads: int) -> LoadedModel:
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
