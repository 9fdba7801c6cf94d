"""The only place where the product meets the model: `Context` in, drafts out."""

import operator
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import accumulate

from mercury_lsp.backend.draft_cache import DraftCache
from mercury_lsp.backend.suffix_pin import SuffixPin
from mercury_lsp.config import Config
from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Context, Draft
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.load import LoadedModel
from mercury_model.spec.card import Calibration, ModelCard


def limits(card: ModelCard) -> Limits:
    """How much text is worth looking at for a model; the tokenizer cuts the surplus exactly."""
    each = card.infill.characters_per_token
    return Limits(
        prefix_chars=card.infill.prefix_tokens * each,
        suffix_chars=card.infill.suffix_tokens * each,
        snippet_chars=card.infill.file_tokens * each,
    )


def _unwatched(_draft: PartialOutput) -> None:
    """Nobody looks at the model's own drafts."""


class Backend:
    """A loaded model as the core's `Infill`. `watch` sees each of the model's drafts first."""

    def __init__(
        self,
        model: LoadedModel,
        config: Config,
        watch: Callable[[PartialOutput], None] = _unwatched,
    ) -> None:
        self._infiller = Infiller(
            model.card, model.tokenizer, model.runtime, config.context_megabytes << 20
        )
        self._decode = model.tokenizer.decode
        self._calibration = model.card.calibration
        self._watch = watch
        self._draft_cache = DraftCache()
        self._suffix_pin = SuffixPin()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Decode as `config` says from now on; contexts are kept."""
        self._sampling = SamplingParams(
            quality_speed_tradeoff=config.quality_speed_tradeoff,
            max_tokens=config.max_tokens,
            mode=config.mode,
        )

    def infill(self, context: Context, *, rank: int = 0) -> Generator[Draft, None, None]:
        """See `core.types.Infill`."""
        sampling = replace(self._sampling, rank=rank)
        gap = replace(self._gap(context), prediction=self._draft_cache.rest(context.prefix))
        to_core, text = DraftConverter(self._decode, self._calibration), ""
        try:
            for draft in self._infiller.drafts(gap, sampling):
                text = draft.text
                self._watch(draft)
                yield to_core(draft)
        finally:
            self._draft_cache.put(context.prefix, text)

    def prefill(self, context: Context) -> Generator[int, None, None]:
        """Read a context ahead of its request; yields how many tokens are left."""
        yield from self._infiller.prefill(self._gap(context))

    def _gap(self, context: Context) -> FimPrompt:
        others = tuple((snippet.path, snippet.text) for snippet in context.snippets)
        suffix = self._suffix_pin.held(context.suffix)
        return FimPrompt(context.prefix, suffix, others, elsewhere=context.elsewhere)


class DraftConverter:
    """Turns the model's drafts of one gap, in their order, into the core's.

    The product of its tokens' probabilities, calibrated, is the chance that a beginning is right.
    To be right as a whole, a text must end where it does, too.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], calibration: Calibration) -> None:
        self._decode = decode
        self._calibration = calibration
        self._ends: list[int] = []  # of settled tokens, which stay as they are

    def __call__(self, draft: PartialOutput) -> Draft:
        """The core's view of `draft`."""
        committed = [*draft.committed, False].index(False)
        for count in range(len(self._ends) + 1, committed + 1):
            self._ends.append(len(self._decode(draft.ids[:count])))
        products = [*accumulate(draft.confidences[:committed], operator.mul, initial=1.0)]
        chances = tuple(zip(self._ends, map(self._calibration, products[1:]), strict=False))
        # Text that ran into the limit is not whole: what is cut off must be trimmed as such.
        finished = draft.finished and draft.reason != "length"
        confidence = self._calibration(products[-1] * draft.ending)
        return Draft(draft.text, confidence, finished, draft.steps, chances)
