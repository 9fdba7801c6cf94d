"""Fills cases with a model and scores the results. The clock is an argument."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mercury_lsp.backend.infill import DraftConverter, limits
from mercury_lsp.core.similar import DOCUMENT_CHARS
from mercury_lsp.evaluation import scores
from mercury_lsp.evaluation.cases import SINGLE_LINE, Case
from mercury_lsp.evaluation.offers import DISTRACTIONS, Offer, offer
from mercury_lsp.service import ModelInfo, ModelService
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt

MAX_TOKENS = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one case. `confidence` is the model's probability that the text is right.

    `ended` means that the model ended the text with its end token. `parses` is None if the file
    does not parse with the true text either. `offers` holds what an editor would show, for each of
    `DISTRACTIONS`.
    """

    exact: bool
    similarity: float
    length_error: int
    parses: bool | None
    ended: bool
    confidence: float
    tokens: int
    steps: int
    seconds: float
    text: str
    offers: tuple[Offer | None, ...] = ()


def fill(
    service: ModelService,
    cases: Sequence[Case],
    samplings: Mapping[str, SamplingParams],
    clock: Callable[[], float],
) -> Iterator[dict[str, Outcome]]:
    """Fill each case with every sampling before the next, so that disturbances affect all alike.

    Contexts are prefilled before the clock starts.
    """
    info = service.info
    assert info is not None
    for case in cases:
        others = tuple(text[:DOCUMENT_CHARS] for text in case.others)
        prompt = FimPrompt(case.before, case.after, elsewhere=others)
        stop = ("\n",) if case.kind in SINGLE_LINE else ()
        outcomes = {}
        for name, sampling in samplings.items():
            for _ in service.prefill(prompt):
                pass
            began = clock()
            drafts = [*service.drafts(prompt, replace(sampling, max_tokens=MAX_TOKENS, stop=stop))]
            seconds = clock() - began
            outcomes[name] = _evaluate(case, drafts, seconds, info)
        yield outcomes


def _evaluate(
    case: Case, drafts: Sequence[PartialOutput], seconds: float, info: ModelInfo
) -> Outcome:
    last = drafts[-1]
    seen = [*map(DraftConverter(info.card.calibration), drafts)]
    return Outcome(
        exact=scores.exact(last.text, case.truth),
        similarity=round(scores.similarity(last.text, case.truth), 4),
        length_error=len(last.text.rstrip()) - len(case.truth.rstrip()),
        parses=_parses(case, last.text),
        ended=last.reason == "end",
        confidence=round(seen[-1].confidence, 5),
        tokens=len(last.ids),
        steps=last.steps,
        seconds=round(seconds, 4),
        text=last.text,
        offers=tuple(offer(case, seen, limits(info.card), value) for value in DISTRACTIONS),
    )


def _parses(case: Case, text: str) -> bool | None:
    if case.language != "python" or not scores.parses(case.before, case.truth, case.after):
        return None
    return scores.parses(case.before, text, case.after)
