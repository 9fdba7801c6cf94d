"""What an editor would be offered for a case that nobody asked about: the core, over drafts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mercury_lsp.config import Config
from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Context, Document, Draft, Request
from mercury_lsp.evaluation.cases import Case

DISTRACTIONS = (0.0, 1.0, 2.5, 4.0, 8.0)
"""The values of the setting `distraction` for which offers are judged."""


@dataclass(frozen=True, slots=True)
class Offer:
    """`right`: a whole completion is what was there, or a beginning is how that began."""

    text: str
    right: bool

    @property
    def saved(self) -> int:
        """The keys that accepting saves: all but the one that accepts; none if it is wrong."""
        return len(self.text) - 1 if self.right else 0


def offer(case: Case, drafts: Sequence[Draft], limits: Limits, distraction: float) -> Offer | None:
    """What the server would show of `drafts`, in time and with the default `min_confidence`."""

    def infill(context: Context, *, rank: int = 0) -> Iterator[Draft]:
        yield from drafts

    document = Document("file:///case", case.language, case.before + case.after)
    found = pipeline.complete(
        Request(document, len(case.before)),
        infill,
        CompletionCache(0),
        Budget(1, lambda: 0),
        pipeline.CompletionPolicy(limits, Config().min_confidence, distraction),
    )
    if found is None:
        return None
    truth = case.truth.rstrip()
    right = found.text.rstrip() == truth if found.finished else truth.startswith(found.text)
    return Offer(found.text, right)
