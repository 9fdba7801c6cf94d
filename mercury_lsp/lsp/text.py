"""The text of an open document as LSP counts it: lines, and columns in code units.

Only \\n, \\r\\n and \\r end a line (LSP 3.18, "Text Documents"). The other line breaks of
Python's `splitlines` would misplace edits.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from lsprotocol.types import Position, PositionEncodingKind
from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """One version of a document. Offsets count code points; `encoding` is the unit of columns."""

    source: str
    encoding: PositionEncodingKind | str = PositionEncodingKind.Utf16

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The offset of the beginning of each line."""
        return np.concatenate([np.zeros(1, np.int64), _starts_in(self.source, 0, len(self.source))])

    def offset(self, position: Position) -> int:
        """The offset of a position. Past the end of a line or document it means that end."""
        if position.line >= len(self.starts):
            return len(self.source)
        line = self.line(position.line)
        return int(self.starts[position.line]) + _points(line, position.character, self.encoding)

    def position(self, offset: int) -> Position:
        """The position of an offset within the document."""
        line = int(np.searchsorted(self.starts, offset, side="right")) - 1
        before = self.source[int(self.starts[line]) : offset]
        return Position(line, _units(before, self.encoding))

    def line(self, number: int) -> str:
        """A line without its line break."""
        start = int(self.starts[number])
        end = int(self.starts[number + 1]) if number + 1 < len(self.starts) else len(self.source)
        return self.source[start:end].rstrip("\r\n")

    def splice(self, start: int, end: int, new: str) -> Self:
        """Replace the text from `start` to `end`. Only lines that the edit touches are reread."""
        start, end = min(start, end), max(start, end)
        source = self.source[:start] + new + self.source[end:]
        after = type(self)(source, self.encoding)
        # Whether a line begins at an offset depends on the characters on either side of it alone,
        # so only the offsets from `start` to the end of `new` are in question.
        reached = start + len(new)
        found = _starts_in(source, max(0, start - 1), min(len(source), reached + 1))
        within = found[(found >= start) & (found <= reached)]
        kept = self.starts[: np.searchsorted(self.starts, start, side="left")]
        moved = self.starts[np.searchsorted(self.starts, end, side="right") :] + (reached - end)
        first = within if start else np.concatenate([np.zeros(1, np.int64), within])
        object.__setattr__(after, "starts", np.concatenate([kept, first, moved]))
        return after


def _starts_in(source: str, low: int, high: int) -> NDArray[np.int64]:
    """The offsets of lines that begin after a line break between `low` and `high`."""
    codes = _codes(source[low:high])
    feeds, returns = codes == 10, codes == 13
    returns[:-1] &= ~feeds[1:]
    return np.flatnonzero(feeds | returns) + (low + 1)


def _points(line: str, units: int, encoding: PositionEncodingKind | str) -> int:
    """How many whole code points fit into the first `units` code units."""
    if line.isascii() or encoding == PositionEncodingKind.Utf32:
        return min(units, len(line))
    ends = np.cumsum(_widths(line[:units], encoding))
    return int(np.searchsorted(ends, units, side="right"))


def _units(text: str, encoding: PositionEncodingKind | str) -> int:
    if text.isascii() or encoding == PositionEncodingKind.Utf32:
        return len(text)
    return int(_widths(text, encoding).sum())


def _widths(text: str, encoding: PositionEncodingKind | str) -> NDArray[np.int64]:
    """How many code units each code point takes, lone surrogates included."""
    codes = _codes(text)
    widths = 1 + (codes > 0xFFFF).astype(np.int64)
    if encoding == PositionEncodingKind.Utf8:
        widths += (codes > 0x7F).astype(np.int64) + (codes > 0x7FF)
    return widths


def _codes(text: str) -> NDArray[Any]:
    if text.isascii():  # takes a quarter of the memory, and most large documents are ASCII
        return np.frombuffer(text.encode("ascii"), "u1")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
