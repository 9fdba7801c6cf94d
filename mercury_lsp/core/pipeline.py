"""The completion pipeline: context, cache, drafts within the budget, `tidy`.

Pure: the model, the cache and the clock are arguments. The caller sets the time limit; this module
alone decides whether to take another step.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mercury_lsp.core import chance
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.context import Limits, extract, worth_asking
from mercury_lsp.core.tidy import is_final, trim, useful_prefix
from mercury_lsp.core.types import Completion, Context, Draft, Infill, Request, Trigger

AUTOCLOSED = ")]}\"'`"
"""Closing characters that editors insert after the cursor."""
AUTOCLOSED_DEPTH = 3
"""How many auto-closed characters are skipped when matching a cached completion."""

Mark = Callable[[str], None]
"""Called at the end of each stage of a request, for timing: "context"; "hit" (answered from the
cache); "prefill" or "denoise", once per step; "tidy"."""


@dataclass(frozen=True, slots=True)
class CompletionPolicy:
    """The parameters that all requests share until the settings or the model change.

    An automatic completion is shown only if its confidence is at least `min_confidence` and it is
    expected to save keys, where a wrong completion costs `distraction` keys. `alternatives` is the
    maximum number of distinct completions for an invoked request.
    """

    limits: Limits
    min_confidence: float = 0.0
    distraction: float = 0.0
    alternatives: int = 3


def _ignore_mark(_stage: str) -> None:
    """The default `Mark`."""


def complete(
    request: Request,
    infill: Infill,
    cache: CompletionCache,
    budget: Budget,
    policy: CompletionPolicy,
    mark: Mark = _ignore_mark,
) -> Completion | None:
    """The completion for `request`, or None if there is no good one within the budget."""
    context = extract(request, policy.limits)
    mark("context")
    if not worth_asking(request, context):
        return None
    hit = _find_cached(context, cache)
    if hit is not None:
        mark("hit")
        return hit
    min_confidence = policy.min_confidence if request.trigger is Trigger.AUTOMATIC else 0.0
    draft = _best_draft(infill(context), context, budget, mark, min_confidence)
    if draft is None:
        return None
    completion = None if chance.first_line_chance(draft) < min_confidence else trim(draft, context)
    if request.trigger is Trigger.AUTOMATIC:
        completion = _most_useful(draft, context, completion, policy)
    mark("tidy")
    if completion is not None:
        cache.put(context, completion)
    return completion


def alternatives(
    request: Request,
    infill: Infill,
    cache: CompletionCache,
    budget: Budget,
    policy: CompletionPolicy,
    mark: Mark = _ignore_mark,
) -> list[Completion]:
    """Up to `policy.alternatives` distinct completions, likeliest first.

    The model is called even on a cache hit; the cached completion is the fallback.
    """
    context = extract(request, policy.limits)
    mark("context")
    if not worth_asking(request, context):
        return []
    found: dict[str, Completion] = {}
    for rank in range(2 * policy.alternatives):
        if len(found) == policy.alternatives or not budget.more():
            break
        draft = _best_draft(infill(context, rank=rank), context, budget, mark, 0.0)
        completion = trim(draft, context) if draft else None
        mark("tidy")
        if completion is not None and (completion.finished or not found):
            found.setdefault(completion.text, completion)
    for first in list(found.values())[:1]:
        cache.put(context, first)
    if not found and (hit := _find_cached(context, cache)) is not None:
        return [hit]
    return list(found.values())


def ahead(request: Request, completion: Completion) -> Request:
    """The request that will follow if the user accepts `completion`, with the cursor after it."""
    text, offset = request.document.text, request.offset
    taken = text[:offset] + completion.text + text[offset + completion.replaces :]
    document = replace(request.document, text=taken)
    offset += len(completion.text)
    return replace(request, document=document, offset=offset, trigger=Trigger.AUTOMATIC)


def prefill(
    request: Request,
    chunks: Callable[[Context], Iterator[int]],
    budget: Budget,
    policy: CompletionPolicy,
) -> bool:
    """Prefill the context of `request` chunk by chunk. Returns True when all of it was read.

    `chunks` yields the number of tokens left after each chunk.
    """
    steps = chunks(extract(request, policy.limits))
    with _close_on_exit(steps):
        while budget.more():
            if next(steps, 0) == 0:
                return True
    return False


def _find_cached(context: Context, cache: CompletionCache) -> Completion | None:
    """The untyped rest of a cached completion, also if the editor auto-closed brackets."""
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


def _best_draft(
    drafts: Iterator[Draft], context: Context, budget: Budget, mark: Mark, min_confidence: float
) -> Draft | None:
    """The last draft within the budget. None if it is empty or the request was stopped.

    Stops early once the first line's chance is below `min_confidence`.
    """
    best = None
    with _close_on_exit(drafts):
        while budget.more():
            draft = next(drafts, None)
            if draft is None:
                break
            best = draft
            mark("denoise" if draft.steps else "prefill")
            unlikely = chance.first_line_chance(draft) < min_confidence
            if unlikely or draft.finished or is_final(draft, context):
                break
    return best if best is not None and best.text and not budget.stopped() else None


def _most_useful(
    draft: Draft, context: Context, whole: Completion | None, policy: CompletionPolicy
) -> Completion | None:
    """The whole completion or a prefix of the draft, whichever should save more keys."""

    def saved(confidence: float, characters: int) -> float:
        if confidence < policy.min_confidence:
            return -1.0
        return chance.expected_keys_saved(confidence, characters, policy.distraction)

    most = -1.0 if whole is None else saved(whole.confidence, len(whole.text))
    end = len(whole.text.rstrip()) - len(context.pending) if whole else len(draft.text) + 1

    def worth(length: int) -> float:
        """The keys saved beyond those of the whole completion; 0 if it is not shorter."""
        return (
            saved(chance.prefix_chance(draft, length), length) - max(0, most) if length < end else 0
        )

    shortened = useful_prefix(draft, context, worth)
    return shortened or (whole if most >= 0 else None)


@contextmanager
def _close_on_exit(steps: Iterator[object]) -> Iterator[None]:
    """Close a generator on exit, so that it releases its resources at once."""
    try:
        yield
    finally:
        if isinstance(steps, Generator):
            steps.close()
