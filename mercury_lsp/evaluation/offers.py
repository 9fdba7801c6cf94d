"""Computes what an editor would show for a case, by running the core pipeline on drafts."""

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
"""The values of the setting `distraction` that are evaluated."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A shown completion. `right` means that it equals the truth, or begins it if unfinished."""

    text: str
    right: bool

    @property
    def saved(self) -> int:
        """The keys that accepting saves: all but the accepting one, or none if it is wrong."""
        return len(self.text) - 1 if self.right else 0


def offer(case: Case, drafts: Sequence[Draft], limits: Limits, distraction: float) -> Offer | None:
    """What the server would show for `drafts`, without a deadline and at default confidence."""

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
