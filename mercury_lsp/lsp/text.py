"""The text of an open document as LSP counts it: lines, and columns in code units.

A line ends with \\n, \\r\\n or \\r and with nothing else (LSP 3.18, "Text Documents"); Python's
`splitlines` knows more, which would put edits into the wrong place.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from lsprotocol.types import Position, PositionEncodingKind
from numpy.typing import NDArray

_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Text:
    """One version of a document. Offsets count code points; `encoding` is what columns count."""

    source: str
    encoding: PositionEncodingKind | str = PositionEncodingKind.Utf16

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The offset of the beginning of each line."""
        return np.concatenate([[0], _starts_in(self.source, 0, len(self.source))])

    def offset(self, position: Position) -> int:
        """Where a position is; one past the end of a line or document counts as that end."""
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
        """Replace what stands from `start` to `end`; only the lines touched are looked at again."""
        start, end = min(start, end), max(start, end)
        source = self.source[:start] + new + self.source[end:]
        after = type(self)(source, self.encoding)
        # From the line before, whose \r may become half of a \r\n, to the start of the next.
        first = max(0, int(np.searchsorted(self.starts, start - 1, side="right")) - 1)
        last = int(np.searchsorted(self.starts, end, side="right"))
        low = int(self.starts[first])
        high = int(self.starts[last]) if last < len(self.starts) else len(self.source)
        grown = len(new) - (end - start)
        found = _starts_in(source, low, high + grown)
        # The break before `high` is found again with the region, or the document ends there.
        tail = self.starts[last + 1 :] + grown
        kept = np.concatenate([self.starts[: first + 1], found, tail])
        object.__setattr__(after, "starts", kept)
        return after


def _starts_in(source: str, low: int, high: int) -> NDArray[np.int64]:
    """Starts of the lines that begin after `low`, up to and including `high`."""
    ends = [found.end() for found in _BREAK.finditer(source, low, high)]
    return np.array(ends, dtype=np.int64)


def _points(line: str, units: int, encoding: PositionEncodingKind | str) -> int:
    """How many code points the first `units` code units are; a character is never cut in two."""
    if line.isascii() or encoding == PositionEncodingKind.Utf32:
        return min(units, len(line))
    if encoding == PositionEncodingKind.Utf8:
        octets = line.encode("utf-8", "surrogatepass")
        while 0 < units < len(octets) and octets[units] & 0xC0 == 0x80:
            units -= 1
        return len(octets[:units].decode("utf-8", "surrogatepass"))
    pairs = np.frombuffer(line.encode("utf-16-le", "surrogatepass"), "<u2")
    if 0 < units < len(pairs) and pairs[units - 1] >> 10 == 0x36 and pairs[units] >> 10 == 0x37:
        units -= 1
    return len(pairs[:units].tobytes().decode("utf-16-le", "surrogatepass"))


def _units(text: str, encoding: PositionEncodingKind | str) -> int:
    if text.isascii() or encoding == PositionEncodingKind.Utf32:
        return len(text)
    if encoding == PositionEncodingKind.Utf8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
