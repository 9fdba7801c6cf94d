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
    """Loads, watches and downloads models. A model is a name, an alias or a folder.

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

    def load(name: str, threads: int) -> LoadedModel:
        from mercury_model.load import load

        return load(name, cache_dir=cache_dir, threads=threads)

    def stamp(name: str) -> object:
        from mercury_model.weights import registry

        try:
            entry = registry.find(name)
            if entry.base is None:
                return entry.key
            there = (cache_dir / entry.base.file).stat()
        except (ModelError, OSError):
            return None
        return there.st_mtime_ns, there.st_size

    def has_download(name: str) -> bool:
        from mercury_model.weights import registry

        try:
            return registry.find(name).base is not None
        except ModelError:
            return False

    def pull(name: str, progress: Progress) -> object:
        from mercury_model.weights import registry

        return registry.pull(name, cache_dir=cache_dir, offline=offline, progress=progress)

    return ModelStore(load, stamp, has_download, pull)
