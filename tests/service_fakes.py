"""A service around a model that a test brings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fakes import LetterTokenizer, ScriptedRuntime, card

from mercury_lsp.service import ModelService, ModelSettings
from mercury_model.load import LoadedModel
from mercury_model.serving import EngineLimits


def scripted(runtime: ScriptedRuntime) -> LoadedModel:
    return LoadedModel(card(), LetterTokenizer(), runtime)  # type: ignore[arg-type]


@contextmanager
def serving(
    model: LoadedModel,
    limits: EngineLimits | None = None,
    clock: Callable[[], int] | None = None,
) -> Iterator[ModelService]:
    """The model in a service of its own, whose thread has ended behind the block."""

    def load(name: str, threads: int) -> LoadedModel:
        return model

    service = ModelService(load, clock) if clock else ModelService(load)
    service.load(ModelSettings(model.card.name, 0, limits or EngineLimits())).result(30)
    try:
        yield service
    finally:
        service.close()
        assert service.join(30)
