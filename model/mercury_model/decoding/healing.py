"""Token healing: the first tokens of a middle spell the bytes that its context owes.

The cursor may stand inside a token that the network was trained to see as a whole. The context
then ends before that token, and the bytes between its end and the cursor are owed: the tokens that
are generated must spell them before they add text. The bytes belong to the document, so they are no
part of the text that is inserted. Knows ids and bytes, no network.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercury_model.errors import WeightsUnsupported

_UTF8_BYTES = frozenset(range(0xF5)) - {0xC0, 0xC1}
"""The bytes that occur in UTF-8."""


class TokenIndex:
    """Finds the tokens that agree with owed bytes, among `vocab_size` ids.

    `token_bytes` are the bytes of each id, b"" for ids that stand for no text.
    """

    def __init__(self, token_bytes: Sequence[bytes], vocab_size: int) -> None:
        self.token_bytes = token_bytes
        self._vocab_size = vocab_size
        self._order = sorted(range(len(token_bytes)), key=token_bytes.__getitem__)
        self._sorted = [token_bytes[token] for token in self._order]

    def agreeing(self, owed: bytes) -> NDArray[np.bool_]:
        """The ids that agree with `owed` [vocab_size].

        Their bytes begin with it, or it begins with their bytes. At least one byte must be owed.
        """
        allowed = np.zeros(self._vocab_size, np.bool_)
        size = len(owed)
        first = bisect_left(self._sorted, owed)
        last = bisect_right(self._sorted, owed, lo=first, key=lambda found: found[:size])
        allowed[self._order[first:last]] = True
        for length in range(1, size):
            beginning = owed[:length]
            first = bisect_left(self._sorted, beginning)
            last = bisect_right(self._sorted, beginning, lo=first)
            allowed[self._order[first:last]] = True
        return allowed


@dataclass(frozen=True, slots=True)
class Healing:
    """What one middle owes. `index` is needed where something is; `decode` is the tokenizer's."""

    owed: bytes
    index: TokenIndex | None
    decode: Callable[[Sequence[int]], str]

    def rest(self, ids: Sequence[int]) -> bytes:
        """The bytes that are owed behind a middle that begins with `ids`."""
        return self.owed[sum(map(len, self._bytes(ids))) :] if self.owed else b""

    def spelled_by(self, ids: Sequence[int]) -> int | None:
        """How many of `ids` it takes to spell what is owed; None if they do not."""
        count = length = 0
        pieces = self._bytes(ids)
        while length < len(self.owed):
            if count == len(pieces):
                return None
            length += len(pieces[count])
            count += 1
        return count

    def text(self, ids: Sequence[int]) -> str:
        """The text of `ids` without the bytes owed, and without an incomplete character."""
        if not self.owed:
            return self.decode(ids)
        return self._added(ids).rstrip("\ufffd")

    def splits_a_character(self, ids: Sequence[int]) -> bool:
        """Whether the text of `ids`, all that is owed included, ends within a character."""
        if not self.owed:
            return bool(ids) and self.decode(ids) == self.decode(ids[:-1])
        return self._added(ids).endswith("\ufffd")

    def allowed(self, rest: bytes) -> NDArray[np.bool_] | None:
        """The ids [V] that may follow while `rest` is owed; None for all."""
        if not rest or self.index is None:
            return None
        return self.index.agreeing(rest)

    def rows(self, rests: Sequence[bytes]) -> NDArray[np.bool_] | None:
        """The restriction [R, V] of rows behind which these bytes are owed; None for no row."""
        if self.index is None or not any(rests):
            return None
        free = np.ones_like(self.index.agreeing(self.owed))
        return np.stack([self.index.agreeing(rest) if rest else free for rest in rests])

    def agreeing_count(self, ids: Sequence[int], rest: bytes) -> int:
        """How many leading `ids` agree with `rest`."""
        for count, piece in enumerate(self._bytes(ids) if rest else ()):
            if not rest:
                break
            if not piece or not (piece.startswith(rest) or rest.startswith(piece)):
                return count
            rest = rest[len(piece) :]
        return len(ids)

    def _added(self, ids: Sequence[int]) -> str:
        return b"".join(self._bytes(ids))[len(self.owed) :].decode("utf-8", "replace")

    def _bytes(self, ids: Sequence[int]) -> list[bytes]:
        if self.index is None:
            return []
        known = self.index.token_bytes
        return [known[token] if token < len(known) else b"" for token in ids]


def owed_text(rest: bytes) -> str | None:
    """Owed bytes as text; None if they begin within a character."""
    try:
        return rest.decode("utf-8")
    except UnicodeDecodeError:
        return None


def require_every_byte(token_bytes: Sequence[bytes], predicted: NDArray[np.int64] | None) -> None:
    """Raise WeightsUnsupported unless every text can be spelled with the ids that are predicted.

    `predicted` is None if all are. Each byte of UTF-8 needs a token of its own: only then is there
    always a token that agrees with what is owed.
    """
    ids = range(len(token_bytes)) if predicted is None else predicted.tolist()
    spelled = {token_bytes[i][0] for i in ids if i < len(token_bytes) and len(token_bytes[i]) == 1}
    missing = sorted(_UTF8_BYTES - spelled)
    if missing:
        raise WeightsUnsupported(
            f"No token that these weights predict stands for the byte 0x{missing[0]:02x} alone"
            f" ({len(missing)} bytes are missing), so the token before a cursor cannot be healed.",
            "Use weights whose vocabulary has every byte, or a format that does not heal.",
        )
