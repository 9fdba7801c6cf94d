"""What the model drafted lately, shown or not: while a person types on, it is what comes next.

In memory only; knows no model and no clock. One thread uses it.
"""

from collections import deque

MAX_ENTRIES = 8
"""How many drafts are remembered: a few keys back, in a few documents."""
TYPED_CHARS = 64
"""How much may have been typed since, in characters."""


class DraftCache:
    """The last drafts, each with the prefix that it was to follow."""

    def __init__(self) -> None:
        self._drafts: deque[tuple[str, str]] = deque(maxlen=MAX_ENTRIES)

    def put(self, prefix: str, text: str) -> None:
        """Remember what was drafted behind `prefix`."""
        if text:
            self._drafts.append((prefix, text))

    def rest(self, prefix: str) -> str:
        """What is left of the latest draft that has been typed up to `prefix`; "" if none has."""
        for before, text in reversed(self._drafts):
            typed = prefix[len(before) :]
            if (
                len(typed) <= min(TYPED_CHARS, len(text) - 1)
                and text.startswith(typed)
                and prefix.startswith(before)
            ):
                return text[len(typed) :]
        return ""
