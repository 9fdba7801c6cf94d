"""`ModelStore`: where models come from. An argument of whoever loads them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mercury_lsp.service.values import Load
from mercury_model.errors import ModelError
from mercury_model.load import LoadedModel
from mercury_model.weights.sources import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Loads, watches and downloads models. A model is a name, an alias, a folder or "auto".

    `stamp` is None while a model's weights are not on this machine, and changes whenever they do.
    `has_download` says whether `pull` could fetch them: bundled models and folders have none.
    `pull` is the only use of the network.
    """

    load: Load
    stamp: Callable[[str], object]
    has_download: Callable[[str], bool]
    pull: Callable[[str, Progress], object]


def model_store(cache_dir: Path, *, offline: bool) -> ModelStore:
    """The models of the cache folder. Heavy modules are imported when they are needed."""

    def resolved(name: str) -> str:
        from mercury_model import auto

        return auto.resolve(name, cache_dir).name

    def load(name: str, threads: int) -> LoadedModel:
        from mercury_model import auto
        from mercury_model.load import load

        choice = auto.resolve(name, cache_dir)
        if choice.name != name:
            level = logging.WARNING if choice.compromise else logging.INFO
            log.log(level, "model: %s, %s", choice.name, choice.why)
        return load(choice.name, cache_dir=cache_dir, threads=threads)

    def stamp(name: str) -> object:
        from mercury_model.weights import registry

        try:
            entry = registry.find(resolved(name))
            if entry.base is None:
                return entry.key
            there = (cache_dir / entry.base.file).stat()
        except (ModelError, OSError):
            return None
        return there.st_mtime_ns, there.st_size

    def has_download(name: str) -> bool:
        from mercury_model.weights import registry

        try:
            return registry.find(resolved(name)).base is not None
        except ModelError:
            return False

    def pull(name: str, progress: Progress) -> object:
        from mercury_model.weights import registry

        found = resolved(name)
        return registry.pull(found, cache_dir=cache_dir, offline=offline, progress=progress)

    return ModelStore(load, stamp, has_download, pull)
