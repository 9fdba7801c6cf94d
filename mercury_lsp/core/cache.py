"""Completions kept so that a person may type through them. In memory only; knows no clock."""

from dataclasses import dataclass, replace

from cachetools import LRUCache

from mercury_lsp.core.types import Completion, Context

TYPED_CHARS = 128
"""How much of a completion may have been typed for the rest of it to be served, in characters."""
KEY_CHARS = 48
"""How much text on either side of the cursor makes the key, in characters; all is compared."""
MOVED_CHARS = 400
"""A prefix longer than this, in characters, may have been cut elsewhere when it was stored."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What was put: newlines of `completion` are "\\n" and nothing of it is pending."""

    context: Context
    completion: Completion

    def serves(self, context: Context, typed: int) -> bool:
        """Whether `context` is this one's with the first `typed` characters typed."""
        origin = context.prefix[: len(context.prefix) - typed]
        mine, completion = self.context, self.completion
        return (
            mine.language == context.language
            and _is_same_prefix(mine.prefix, origin)
            and mine.suffix == context.suffix
            and mine.snippets == context.snippets
            and completion.text.startswith(context.prefix[len(origin) :])
            and typed < len(completion.text)
            and (completion.finished if typed == 0 else completion.replaces == 0)
        )


class CompletionCache:
    """The last `entries` completions, each served for its context and while it is being typed.

    An unfinished completion is served only once some of it is typed: where it was made, the model
    may by now say more. One thread uses it.
    """

    def __init__(self, entries: int) -> None:
        self._entries: LRUCache[tuple[str, str], _Entry] = LRUCache(max(0, entries))

    def find(self, context: Context) -> Completion | None:
        """What is left to type of a completion put for this context or for a shorter prefix."""
        longest = min(TYPED_CHARS, len(context.prefix))
        for typed in range(longest + 1):
            entry = self._entries.get(_key(context, len(context.prefix) - typed))
            if entry is not None and entry.serves(context, typed):
                text = context.pending + entry.completion.text[typed:]
                return replace(entry.completion, text=text.replace("\n", context.newline))
        return None

    def put(self, context: Context, completion: Completion) -> None:
        """Keep what was completed in `context`."""
        if self._entries.maxsize:
            text = completion.text.replace("\r\n", "\n").removeprefix(context.pending)
            entry = _Entry(replace(context, before="", after=""), replace(completion, text=text))
            self._entries[_key(context, len(context.prefix))] = entry


def _key(context: Context, end: int) -> tuple[str, str]:
    return context.prefix[max(0, end - KEY_CHARS) : end], context.suffix[:KEY_CHARS]


def _is_same_prefix(a: str, b: str) -> bool:
    """Whether two windows on the text before a cursor agree as far as they both reach."""
    if min(len(a), len(b)) < MOVED_CHARS:
        return a == b
    return a.endswith(b) or b.endswith(a)
