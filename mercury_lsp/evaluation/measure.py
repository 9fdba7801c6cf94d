"""Fills cases with a model and keeps what came of it. The clock is an argument."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from mercury_lsp.evaluation import scores
from mercury_lsp.evaluation.cases import SINGLE_LINE, Case
from mercury_model.infill import Draft, Gap, Infiller, Sampling
from mercury_model.models import LoadedModel

MAX_TOKENS = 60
REPEATS = 15


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case filled. `confidence` is the product of the tokens' probabilities.

    `ended`: the model ended the text by itself where the truth ends, or before the cut of a
    single line. `parses` is None where the file does not parse with the truth either.
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


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of one call with one row, and with a block of masks behind it."""

    one_row: float
    block: float


def fill(
    model: LoadedModel, cases: Sequence[Case], sampling: Sampling, clock: Callable[[], float]
) -> Iterator[Outcome]:
    """Each case in turn, its context made ready before the clock runs."""
    infiller = Infiller(model.card, model.tokenizer, model.runtime)
    for case in cases:
        gap = Gap(case.before, case.after)
        for _ in infiller.prefill(gap):
            pass
        stop = ("\n",) if case.kind in SINGLE_LINE else ()
        chosen = Sampling(
            quality_speed_tradeoff=sampling.quality_speed_tradeoff,
            max_tokens=MAX_TOKENS,
            stop=stop,
            mode=sampling.mode,
        )
        began = clock()
        *_, last = infiller.drafts(gap, chosen)
        yield _outcome(case, last, clock() - began)


def _outcome(case: Case, last: Draft, seconds: float) -> Outcome:
    confidence = 1.0
    for probability in last.confidences:
        confidence *= probability
    return Outcome(
        exact=scores.exact(last.text, case.truth),
        similarity=round(scores.similarity(last.text, case.truth), 4),
        length_error=len(last.text.rstrip()) - len(case.truth.rstrip()),
        parses=_parses(case, last.text),
        ended=last.reason == "end",
        confidence=round(confidence, 5),
        tokens=len(last.ids),
        steps=last.steps,
        seconds=round(seconds, 4),
        text=last.text,
    )


def _parses(case: Case, text: str) -> bool | None:
    if case.language != "python" or not scores.parses(case.before, case.truth, case.after):
        return None
    return scores.parses(case.before, text, case.after)


def timing(model: LoadedModel, case: Case, clock: Callable[[], float]) -> Timing:
    """What a call costs on this machine, by turns, so that what disturbs one disturbs both."""
    layout = model.card.infill
    ids = model.tokenizer.context_ids(case.before, case.after)
    kv = model.runtime.new_kv()
    for start in range(0, len(ids), 64):
        model.runtime.extend(kv, ids[start : start + 64])
    block = [layout.prefix_id, *[layout.mask_id] * (layout.block_length - 1)]
    taken: dict[int, list[float]] = {1: [], len(block): []}
    for _ in range(REPEATS):
        for rows, seconds in taken.items():
            began = clock()
            model.runtime.verify(kv, block[:rows])
            seconds.append(clock() - began)
            kv.truncate(len(ids))
    return Timing(median(taken[1]), median(taken[len(block)]))
