"""What the model reads of the text behind the cursor: while a person types, the same as before.

The context begins with it, so that all of it had to be read anew when an editor closes a bracket.
The model then still sees what was there before, and closes the bracket itself; what stands there
already is for the core to leave out. In memory only; one thread uses it.
"""

from collections import deque

from mercury_lsp.core.pipeline import AUTOCLOSED, AUTOCLOSED_DEPTH

MAX_ENTRIES = 4
"""How many suffixes are remembered: one for each of a few documents."""
LONG_CHARS = 400
"""A suffix longer than this, in characters, may have been cut elsewhere; the model sees less."""
INDENT_CHARS = 80
"""How far behind the cursor a closed bracket may stand, on a line of its own, in characters."""


class SuffixPin:
    """The suffixes that were read last."""

    def __init__(self) -> None:
        self._read: deque[str] = deque(maxlen=MAX_ENTRIES)

    def held(self, suffix: str) -> str:
        """What to read for `suffix`: what was read before, if it only lacks closed brackets."""
        for depth in (0, *_closed(suffix)):
            for read in reversed(self._read):
                if _is_same(suffix[depth:], read):
                    self._read.remove(read)
                    self._read.append(read)
                    return read
        self._read.append(suffix)
        return suffix


def _closed(suffix: str) -> list[int]:
    """Where the brackets end that an editor may have put at the beginning of `suffix`."""
    ends: list[int] = []
    for place, character in enumerate(suffix[:INDENT_CHARS]):
        if character in AUTOCLOSED and len(ends) < AUTOCLOSED_DEPTH:
            ends.append(place + 1)
        elif not character.isspace():
            break
    return ends


def _is_same(one: str, other: str) -> bool:
    """Whether two windows on the text behind a cursor agree as far as they both reach."""
    if min(len(one), len(other)) < LONG_CHARS:
        return one == other
    return one.startswith(other) or other.startswith(one)
