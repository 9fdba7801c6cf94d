"""From the core to the model and back: a `Context` becomes a prompt, outputs become drafts."""

import operator
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from itertools import accumulate

from mercury_lsp.backend.draft_cache import DraftCache
from mercury_lsp.backend.suffix_pin import SuffixPin
from mercury_lsp.config import Config
from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Context, Draft
from mercury_lsp.service import ModelService, RequestOptions
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.spec.card import Calibration, ModelCard

_DEFAULTS = RequestOptions()


def limits(card: ModelCard) -> Limits:
    """How much text the core gives a model to read; the tokenizer cuts the surplus exactly."""
    each = card.infill.characters_per_token
    return Limits(
        prefix_chars=card.infill.prefix_tokens * each,
        suffix_chars=card.infill.suffix_tokens * each,
        snippet_chars=card.infill.file_tokens * each,
    )


def _unwatched(_output: PartialOutput) -> None:
    """Nobody looks at the model's outputs."""


class Backend:
    """The model of a service as the core's `Infill`.

    Recent drafts and suffixes are kept for the next request; one thread uses them at a time.
    """

    def __init__(
        self,
        service: ModelService,
        config: Config,
        draft_cache: DraftCache | None = None,
        suffix_pin: SuffixPin | None = None,
    ) -> None:
        self._service = service
        self._draft_cache = draft_cache or DraftCache()
        self._suffix_pin = suffix_pin or SuffixPin()
        self._sampling = SamplingParams(
            quality_speed_tradeoff=config.quality_speed_tradeoff,
            max_tokens=config.max_tokens,
            mode=config.mode,
        )

    def configured(self, config: Config) -> "Backend":
        """The same model, sampled as `config` says; recent drafts and suffixes are shared."""
        return Backend(self._service, config, self._draft_cache, self._suffix_pin)

    def infill(
        self,
        context: Context,
        *,
        rank: int = 0,
        options: RequestOptions = _DEFAULTS,
        watch: Callable[[PartialOutput], None] = _unwatched,
    ) -> Generator[Draft, None, None]:
        """See `core.types.Infill`. `watch` sees each of the model's outputs before the core does.

        Raises what `ModelService.drafts` raises.
        """
        sampling = replace(self._sampling, rank=rank)
        prediction = self._draft_cache.rest(context.prefix)
        prompt = replace(self._prompt(context), prediction=prediction)
        convert, text = None, ""
        try:
            with closing(self._service.drafts(prompt, sampling, options)) as outputs:
                for output in outputs:
                    convert = convert or self._converter()
                    text = output.text
                    watch(output)
                    yield convert(output)
        finally:
            self._draft_cache.put(context.prefix, text)

    def prefill(
        self, context: Context, *, options: RequestOptions = _DEFAULTS
    ) -> Generator[int, None, None]:
        """Read a context ahead of its request; yields how many tokens are left."""
        return self._service.prefill(self._prompt(context), options)

    def _converter(self) -> "DraftConverter":
        """For a stream that has begun: the model is not replaced before it ends."""
        info = self._service.info
        assert info is not None
        return DraftConverter(info.card.calibration)

    def _prompt(self, context: Context) -> FimPrompt:
        others = tuple((snippet.path, snippet.text) for snippet in context.snippets)
        suffix = self._suffix_pin.held(context.suffix)
        return FimPrompt(context.prefix, suffix, others, elsewhere=context.elsewhere)


class DraftConverter:
    """Converts the model's outputs for one prompt, in their order, into the core's drafts.

    The chance that a beginning is right is the calibrated product of its tokens' probabilities.
    The whole text is right only if it also ends where it should.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration

    def __call__(self, output: PartialOutput) -> Draft:
        """The core's view of `output`."""
        committed = [*output.committed, False].index(False)
        products = [*accumulate(output.confidences[:committed], operator.mul, initial=1.0)]
        # Tokens that only spell what stands before the cursor have no text of their own.
        chances = tuple(
            (end, self._calibration(product))
            for end, product in zip(output.ends, products[1:], strict=False)
            if end
        )
        # Text that ran into the limit is not whole: what is cut off must be trimmed as such.
        finished = output.finished and output.reason != "length"
        confidence = self._calibration(products[-1] * output.ending)
        return Draft(output.text, confidence, finished, output.steps, chances)
