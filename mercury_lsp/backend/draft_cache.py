"""The model's latest drafts, shown or not: they often predict what a person types next.

In memory only; knows no model and no clock. One thread uses it.
"""

from collections import deque

MAX_ENTRIES = 8
"""How many drafts are kept: for the last few keys in a few documents."""
TYPED_CHARS = 64
"""How many characters may have been typed since a draft was made."""


class DraftCache:
    """The last drafts, each with the prefix it follows."""

    def __init__(self) -> None:
        self._drafts: deque[tuple[str, str]] = deque(maxlen=MAX_ENTRIES)

    def put(self, prefix: str, text: str) -> None:
        """Keep a draft that follows `prefix`."""
        if text:
            self._drafts.append((prefix, text))

    def rest(self, prefix: str) -> str:
        """The rest of the latest draft that was typed up to `prefix`; "" if there is none."""
        for before, text in reversed(self._drafts):
            typed = prefix[len(before) :]
            if (
                len(typed) <= min(TYPED_CHARS, len(text) - 1)
                and text.startswith(typed)
                and prefix.startswith(before)
            ):
                return text[len(typed) :]
        return ""
