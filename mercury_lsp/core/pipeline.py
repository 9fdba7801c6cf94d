"""The whole way of one keystroke: context, cache, drafts within the budget, tidy.

Pure: the model, the cache and the clock are arguments. The shell says how long a request may take;
only this module decides whether another step is worth taking.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mercury_lsp.core import chance
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.context import Limits, extract, worth_asking
from mercury_lsp.core.tidy import beginning, is_final, trim
from mercury_lsp.core.types import Completion, Context, Draft, Infill, Request, Trigger

AUTOCLOSED = ")]}\"'`"
"""What editors add behind the cursor when its counterpart is typed."""
AUTOCLOSED_DEPTH = 3
"""How many such additions are looked past to find what is being typed through."""

Mark = Callable[[str], None]
"""Called at the end of each stage of a request, for those who keep the time: "context"; "hit"
(the cache answers); "prefill" or "denoise", once a step; "tidy"."""


@dataclass(frozen=True, slots=True)
class CompletionPolicy:
    """What holds for every request until the settings or the model change.

    When nobody asked, what is shown is right with a chance of at least `min_confidence`, and saves
    keys on average although a wrong completion costs `distraction` keys. `alternatives` is how many
    distinct ones an invoked request returns at most.
    """

    limits: Limits
    min_confidence: float = 0.0
    distraction: float = 0.0
    alternatives: int = 3


def _unmarked(_stage: str) -> None:
    """Nobody keeps the time."""


def complete(
    request: Request,
    infill: Infill,
    cache: CompletionCache,
    budget: Budget,
    rules: CompletionPolicy,
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
    draft = _drawn(infill(context), context, budget, mark, least)
    if draft is None:
        return None
    completion = None if chance.of_first_line(draft) < least else trim(draft, context)
    if request.trigger is Trigger.AUTOMATIC:
        completion = _worthwhile(draft, context, completion, rules)
    mark("tidy")
    if completion is not None:
        cache.put(context, completion)
    return completion


def alternatives(
    request: Request,
    infill: Infill,
    cache: CompletionCache,
    budget: Budget,
    rules: CompletionPolicy,
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
        draft = _drawn(infill(context, rank=rank), context, budget, mark, 0.0)
        completion = trim(draft, context) if draft else None
        mark("tidy")
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
    rules: CompletionPolicy,
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


def _drawn(
    drafts: Iterator[Draft], context: Context, budget: Budget, mark: Mark, least: float
) -> Draft | None:
    """The best draft within the budget, if it says anything; none when the request is stopped.

    Drawing ends as soon as it is known that the chance of the first line is below `least`.
    """
    best = None
    with _closing(drafts):
        while budget.more():
            draft = next(drafts, None)
            if draft is None:
                break
            best = draft
            mark("denoise" if draft.steps else "prefill")
            unlikely = chance.of_first_line(draft) < least
            if unlikely or draft.finished or is_final(draft, context):
                break
    return best if best is not None and best.text and not budget.stopped() else None


def _worthwhile(
    draft: Draft, context: Context, whole: Completion | None, rules: CompletionPolicy
) -> Completion | None:
    """The whole completion or the beginning of the draft, whichever is expected to save more."""

    def saved(confidence: float, characters: int) -> float:
        if confidence < rules.min_confidence:
            return -1.0
        return chance.saved(confidence, characters, rules.distraction)

    most = -1.0 if whole is None else saved(whole.confidence, len(whole.text))
    end = len(whole.text.rstrip()) - len(context.pending) if whole else len(draft.text) + 1

    def worth(length: int) -> float:
        """How much more than the whole; nothing, where it is the whole."""
        return saved(chance.of_first(draft, length), length) - max(0, most) if length < end else 0

    begun = beginning(draft, context, worth)
    return begun or (whole if most >= 0 else None)


@contextmanager
def _closing(steps: Iterator[object]) -> Iterator[None]:
    """End a generator when its reader is done, so that what it holds is let go at once."""
    try:
        yield
    finally:
        if isinstance(steps, Generator):
            steps.close()
