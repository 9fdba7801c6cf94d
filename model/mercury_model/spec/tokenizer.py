"""Text to ids and back, and the layout that the weights were taught. Byte-level BPE.

The only place that knows how a context is laid out: `[file] path, text … [suffix] S [prefix] P
[middle]`, each part tokenised by itself, so that a cursor may stand inside a word. No policy and
no network.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as BytePairs

from mercury_model.spec.fim_format import FimFormat

CHARACTERS_PER_TOKEN = 8
"""More text than this many characters for each token of a limit is never looked at."""

STRIDES = 4
"""The window over the prefix moves in steps of a quarter of its size: until it moves, what was
tokenised stays a beginning of what will be, and its keys and values hold."""


class Tokenizer:
    """The tokenizer of one set of weights."""

    def __init__(self, path: Path, infill: FimFormat) -> None:
        self._pairs = BytePairs.from_file(str(path))
        # What looks like a special token in somebody's source is text like any other.
        self._pairs.encode_special_tokens = True
        self._format = infill

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; a lone surrogate, which is no character, counts as a question mark."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._pairs.encode(clean, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without the marks, and without an incomplete character at its end."""
        text: str = self._pairs.decode(list(ids), skip_special_tokens=True)
        return text.rstrip("\ufffd")

    def context_ids(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        """The context of a gap, within the limits of the format, up to the middle mark.

        `others` are (path, text) of other files, most useful first; they are left out where the
        weights do not know such text.
        """
        layout = self._format
        return [
            *self._other_ids(others),
            layout.suffix_id,
            *self._suffix_ids(suffix),
            layout.prefix_id,
            *self._prefix_ids(prefix),
            layout.middle_id,
        ]

    def _suffix_ids(self, suffix: str) -> list[int]:
        limit = self._format.suffix_tokens
        return self.encode(suffix[: limit * CHARACTERS_PER_TOKEN])[:limit]

    def _prefix_ids(self, prefix: str) -> list[int]:
        """The last lines of `prefix`, as many whole strides of tokens as fit."""
        limit = self._format.prefix_tokens
        text = _tail(prefix, limit * CHARACTERS_PER_TOKEN)
        ids = self.encode(text)
        if len(ids) <= limit:
            return ids
        stride = max(1, limit // STRIDES)
        drop = -(-(len(ids) - limit) // stride) * stride
        cut = len(self._pairs.decode(ids[:drop], skip_special_tokens=False))
        line = text.find("\n", cut) + 1
        kept = self.encode(text[line:]) if line else []
        if len(kept) < limit // 2:  # one long line: there is no better place than this
            kept = self.encode(text[cut:])
        return kept[-limit:]

    def _other_ids(self, others: Sequence[tuple[str, str]]) -> list[int]:
        layout = self._format
        ids: list[int] = []
        for path, text in others:
            room = layout.file_tokens - len(ids) - 1
            if room <= 0:
                break
            shown = f"{path}\n{text}"[: room * CHARACTERS_PER_TOKEN]
            ids += [layout.file_id, *self.encode(shown)[:room]]
        return ids


def _tail(text: str, limit: int) -> str:
    """The end of `text` from a multiple of `limit` characters on: at most 2 · `limit`."""
    start = max(0, (len(text) - limit) // limit * limit)
    line = text.find("\n", start, start + limit) + 1 if start else 0
    return text[line or start :]
