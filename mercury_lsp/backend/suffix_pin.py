"""Keeps the suffix that the model reads unchanged while an editor closes brackets.

The context begins with the suffix, so any change of it means reading the whole context again. The
model sees the suffix from before the bracket was closed, and closes the bracket itself; the core
then leaves out the brackets that are there already. In memory only; one thread uses it.
"""

from collections import deque

from mercury_lsp.core.pipeline import AUTOCLOSED, AUTOCLOSED_DEPTH

MAX_ENTRIES = 4
"""How many suffixes are kept: one for each of a few documents."""
LONG_CHARS = 400
"""Longer suffixes, in characters, may have been cut at another place; the model sees less."""
INDENT_CHARS = 80
"""How many characters behind the cursor a closed bracket on its own line may be."""


class SuffixPin:
    """The suffixes that were read last."""

    def __init__(self) -> None:
        self._read: deque[str] = deque(maxlen=MAX_ENTRIES)

    def held(self, suffix: str) -> str:
        """The suffix to read: an earlier one if `suffix` only has more closed brackets."""
        for depth in (0, *_closed(suffix)):
            for read in reversed(self._read):
                if _is_same(suffix[depth:], read):
                    self._read.remove(read)
                    self._read.append(read)
                    return read
        self._read.append(suffix)
        return suffix


def _closed(suffix: str) -> list[int]:
    """The ends of the brackets that an editor may have inserted at the start of `suffix`."""
    ends: list[int] = []
    for place, character in enumerate(suffix[:INDENT_CHARS]):
        if character in AUTOCLOSED and len(ends) < AUTOCLOSED_DEPTH:
            ends.append(place + 1)
        elif not character.isspace():
            break
    return ends


def _is_same(one: str, other: str) -> bool:
    """Whether one of two suffixes begins with the other; short ones must be equal."""
    if min(len(one), len(other)) < LONG_CHARS:
        return one == other
    return one.startswith(other) or other.startswith(one)
