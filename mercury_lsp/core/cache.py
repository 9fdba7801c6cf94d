"""Recent completions, so that the user can type through them. In memory only; no clock."""

from dataclasses import dataclass, replace

from cachetools import LRUCache

from mercury_lsp.core.types import Completion, Context

MAX_TYPED_CHARS = 128
"""How much of a completion may already have been typed for a hit."""
KEY_CHARS = 48
"""How much text on each side of the cursor forms the cache key. A hit compares all of it."""
TRUNCATED_CHARS = 400
"""Longer prefixes may begin at different offsets, because windows move as the user types."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stored completion. Its newlines are "\\n" and the pending text is removed."""

    context: Context
    completion: Completion

    def matches(self, context: Context, typed: int) -> bool:
        """Whether `context` is the stored one after typing `typed` characters of the text."""
        origin = context.prefix[: len(context.prefix) - typed]
        stored, completion = self.context, self.completion
        return (
            stored.language == context.language
            and _is_same_prefix(stored.prefix, origin)
            and stored.suffix == context.suffix
            and stored.snippets == context.snippets
            and completion.text.startswith(context.prefix[len(origin) :])
            and typed < len(completion.text)
            and (completion.finished if typed == 0 else completion.replaces == 0)
        )


class CompletionCache:
    """An LRU cache of completions, each found in its own context and while it is being typed.

    An unfinished completion is a hit only after part of it was typed, because in its original
    context the model can now produce more. Not thread-safe.
    """

    def __init__(self, entries: int) -> None:
        self._entries: LRUCache[tuple[str, str], _Entry] = LRUCache(max(0, entries))

    def find(self, context: Context) -> Completion | None:
        """The untyped rest of a completion stored for this context or a shorter prefix."""
        longest = min(MAX_TYPED_CHARS, len(context.prefix))
        for typed in range(longest + 1):
            entry = self._entries.get(_key(context, len(context.prefix) - typed))
            if entry is not None and entry.matches(context, typed):
                text = context.pending + entry.completion.text[typed:]
                return replace(entry.completion, text=text.replace("\n", context.newline))
        return None

    def put(self, context: Context, completion: Completion) -> None:
        """Store the completion of `context`."""
        if self._entries.maxsize:
            text = completion.text.replace("\r\n", "\n").removeprefix(context.pending)
            entry = _Entry(replace(context, before="", after=""), replace(completion, text=text))
            self._entries[_key(context, len(context.prefix))] = entry


def _key(context: Context, end: int) -> tuple[str, str]:
    return context.prefix[max(0, end - KEY_CHARS) : end], context.suffix[:KEY_CHARS]


def _is_same_prefix(a: str, b: str) -> bool:
    """Whether two windows on the text before the cursor agree where they overlap."""
    if min(len(a), len(b)) < TRUNCATED_CHARS:
        return a == b
    return a.endswith(b) or b.endswith(a)
