"""Fills cases with a model and keeps what came of it. The clock is an argument."""

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
    """One case filled. `confidence` is the chance that it is right, to the model's mind.

    `ended`: the model ended the text by itself where the truth ends, or before the cut of a
    single line. `parses` is None where the file does not parse with the truth either. `offers`:
    what an editor would be shown, for each of DISTRACTIONS.
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
    """Each case in turn with each of the samplings, so that what disturbs one disturbs all.

    Contexts are made ready before the clock runs.
    """
    info = service.info
    assert info is not None
    for case in cases:
        others = tuple(text[:DOCUMENT_CHARS] for text in case.others)
        gap = FimPrompt(case.before, case.after, elsewhere=others)
        stop = ("\n",) if case.kind in SINGLE_LINE else ()
        outcomes = {}
        for name, sampling in samplings.items():
            for _ in service.prefill(gap):
                pass
            began = clock()
            drafts = [*service.drafts(gap, replace(sampling, max_tokens=MAX_TOKENS, stop=stop))]
            seconds = clock() - began
            outcomes[name] = _outcome(case, drafts, seconds, info)
        yield outcomes


def _outcome(
    case: Case, drafts: Sequence[PartialOutput], seconds: float, info: ModelInfo
) -> Outcome:
    last = drafts[-1]
    seen = [*map(DraftConverter(info.tokenizer.decode, info.card.calibration), drafts)]
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
