"""The whole way of one keystroke: context, cache, drafts within the budget, tidy.

Pure: the model, the cache and the clock are arguments. The shell says how long a request may take;
only this module decides whether another step is worth taking.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.context import Limits, extract, worth_asking
from mercury_lsp.core.tidy import settled, trim
from mercury_lsp.core.types import Completion, Context, Draft, Infill, Request, Trigger

AUTOCLOSED = ")]}\"'`"
"""What editors add behind the cursor when its counterpart is typed."""
AUTOCLOSED_DEPTH = 3
"""How many such additions are looked past to find what is being typed through."""

TO_COME = 1.2
"""The chance of a line that has begun falls to about this power of itself until the line ends."""

Mark = Callable[[str], None]
"""Called at the end of each stage of a request, for those who keep the time: "context"; "hit"
(the cache answers); "prefill" or "denoise", once a step; "tidy"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every request until the settings or the model change.

    Completions that nobody asked for and that are right with a chance below `min_confidence` stay
    silent; `alternatives` is how many distinct ones an invoked request returns at most.
    """

    limits: Limits
    min_confidence: float = 0.0
    alternatives: int = 3


def _unmarked(_stage: str) -> None:
    """Nobody keeps the time."""


def complete(
    request: Request,
    infill: Infill,
    cache: CompletionCache,
    budget: Budget,
    rules: Rules,
    mark: Mark = _unmarked,
) -> Completion | None:
    """The completion for `request`, or None if nothing good fits the budget."""
    context = extract(request, rules.limits)
    mark("context")
    if not worth_asking(request, context):
        return None
    hit = _cached(context, cache)
    if hit is not None:
        mark("hit")
        return hit
    least = rules.min_confidence if request.trigger is Trigger.AUTOMATIC else 0.0
    completion = _best(infill(context), context, budget, mark, least)
    if completion is not None:
        cache.put(context, completion)
    return completion


def alternatives(
    request: Request,
    infill: Infill,
    cache: CompletionCache,
    budget: Budget,
    rules: Rules,
    mark: Mark = _unmarked,
) -> list[Completion]:
    """Up to `rules.alternatives` distinct completions, the likeliest first.

    The model is asked even if the cache has an answer, which serves when there is no better one.
    """
    context = extract(request, rules.limits)
    mark("context")
    if not worth_asking(request, context):
        return []
    found: dict[str, Completion] = {}
    for rank in range(2 * rules.alternatives):
        if len(found) == rules.alternatives or not budget.more():
            break
        completion = _best(infill(context, rank=rank), context, budget, mark)
        if completion is not None and (completion.finished or not found):
            found.setdefault(completion.text, completion)
    for first in list(found.values())[:1]:
        cache.put(context, first)
    if not found and (hit := _cached(context, cache)) is not None:
        return [hit]
    return list(found.values())


def ahead(request: Request, completion: Completion) -> Request:
    """What will be asked when `completion` of `request` is taken: the same, behind its text."""
    text, offset = request.document.text, request.offset
    taken = text[:offset] + completion.text + text[offset + completion.replaces :]
    document = replace(request.document, text=taken)
    offset += len(completion.text)
    return replace(request, document=document, offset=offset, trigger=Trigger.AUTOMATIC)


def prefill(
    request: Request,
    chunks: Callable[[Context], Iterator[int]],
    budget: Budget,
    rules: Rules,
) -> bool:
    """Let the model read what surrounds a cursor, a chunk at a time; whether it has read all.

    `chunks` yields after each chunk how much is left.
    """
    steps = chunks(extract(request, rules.limits))
    with _closing(steps):
        while budget.more():
            if next(steps, 0) == 0:
                return True
    return False


def _cached(context: Context, cache: CompletionCache) -> Completion | None:
    """What is left of a completion that is being typed, also where the editor closed brackets."""
    hit = cache.find(context)
    for depth in range(1, AUTOCLOSED_DEPTH + 1):
        added = context.suffix[:depth]
        if hit is not None or len(added) < depth or added[-1] not in AUTOCLOSED:
            break
        typed = cache.find(replace(context, suffix=context.suffix[depth:], pending=""))
        if typed is None:
            continue
        hit = trim(Draft(typed.text, typed.confidence, finished=True), context)
        if hit is not None:
            hit = replace(hit, finished=typed.finished)
            cache.put(context, hit)
    return hit


def _best(
    drafts: Iterator[Draft], context: Context, budget: Budget, mark: Mark, least: float = 0.0
) -> Completion | None:
    """What the drafts come to within the budget; nothing when the request is stopped.

    Nothing either as soon as it is known that the chance of being right is below `least`.
    """
    best = None
    with _closing(drafts):
        while budget.more():
            draft = next(drafts, None)
            if draft is None:
                break
            best = draft
            mark("denoise" if draft.steps else "prefill")
            if first_line_chance(draft) < least:
                return None
            if draft.finished or settled(draft, context):
                break
    if best is None or not best.text or budget.stopped():
        return None
    completion = trim(best, context)
    mark("tidy")
    if completion is None or completion.confidence < least:
        return None
    return completion


def first_line_chance(draft: Draft) -> float:
    """The chance that a draft's first line that is not empty will be right to its end.

    Until that line ends, what is still to come counts by TO_COME.
    """
    empty = len(draft.text) - len(draft.text.lstrip("\n"))
    ended = (*draft.line_confidences[empty:], *([draft.confidence] if draft.finished else []))
    return ended[0] if ended else draft.confidence**TO_COME


@contextmanager
def _closing(steps: Iterator[object]) -> Iterator[None]:
    """End a generator when its reader is done, so that what it holds is let go at once."""
    try:
        yield
    finally:
        if isinstance(steps, Generator):
            steps.close()
