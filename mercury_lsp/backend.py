"""The only place where the product meets the model: `Context` in, drafts out."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from mercury_lsp.config import Config
from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Context, Draft
from mercury_model import infill
from mercury_model.config import ModelCard
from mercury_model.infill import Gap, Infiller, Sampling
from mercury_model.models import LoadedModel

CHARACTERS_PER_TOKEN = 6
"""The core bounds text in characters, the tokenizer in tokens. Source code has three to four
characters a token; the surplus is left for the tokenizer to cut, which does it exactly."""


def limits(card: ModelCard) -> Limits:
    """How much text is worth looking at for a model."""
    return Limits(
        prefix_chars=card.infill.prefix_tokens * CHARACTERS_PER_TOKEN,
        suffix_chars=card.infill.suffix_tokens * CHARACTERS_PER_TOKEN,
        snippet_chars=card.infill.file_tokens * CHARACTERS_PER_TOKEN,
    )


def _unwatched(_draft: infill.Draft) -> None:
    """Nobody looks at the model's own drafts."""


class Backend:
    """A loaded model as the core's `Infill`. `watch` sees each of the model's drafts first."""

    def __init__(
        self,
        model: LoadedModel,
        config: Config,
        watch: Callable[[infill.Draft], None] = _unwatched,
    ) -> None:
        self._infiller = Infiller(
            model.card, model.tokenizer, model.runtime, config.context_megabytes << 20
        )
        self._decode = model.tokenizer.decode
        self._watch = watch
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Decode as `config` says from now on; contexts are kept."""
        self._sampling = Sampling(
            quality_speed_tradeoff=config.quality_speed_tradeoff,
            max_tokens=config.max_tokens,
            mode=config.mode,
        )

    def infill(self, context: Context, *, rank: int = 0) -> Generator[Draft, None, None]:
        """See `core.types.Infill`."""
        sampling = replace(self._sampling, rank=rank)
        for draft in self._infiller.drafts(_gap(context), sampling):
            self._watch(draft)
            yield _to_core(draft, self._decode)

    def prefill(self, context: Context) -> Generator[int, None, None]:
        """Read a context ahead of its request; yields how many tokens are left."""
        yield from self._infiller.prefill(_gap(context))


def _gap(context: Context) -> Gap:
    others = tuple((snippet.path, snippet.text) for snippet in context.snippets)
    return Gap(context.prefix, context.suffix, others)


def _to_core(draft: infill.Draft, decode: Callable[[Sequence[int]], str]) -> Draft:
    """With the product of its tokens' probabilities as the chance that it is right.

    On held-out single lines that chance is off by 0.03 on average (model/README.md).
    """
    chance, lines = 1.0, []
    for token, probability, settled in zip(
        draft.ids, draft.confidences, draft.settled, strict=True
    ):
        if not settled:
            break
        before, newline, _ = decode([token]).partition("\n")
        if newline:
            lines.append(chance * probability if before.strip() else chance)
        chance *= probability
    # Text that ran into the limit is not whole: what is cut off must be trimmed as such.
    finished = draft.finished and draft.reason != "length"
    return Draft(draft.text, chance, finished, draft.steps, tuple(lines))
