"""Draws gaps from source text, at places where a person would complete code.

A span is a stretch of text that is not written yet; the suffix follows it. Cuts lie inside the
span, and each has an end of its own: the end of its line, its brackets or its block. Works on text
alone, with offsets in code points; blocks are found by indentation, in every language.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

MAX_BLOCK_LINES = 9
MAX_GAP_CHARS = 240
CLOSERS = {"(": ")", "[": "]", "{": "}"}
PROSE_SHARE = 0.12
KEYWORDS = ("return", "import ", "from ", "raise", "break", "continue", "pass", "yield", "use ")
COMMENTS = ("#", "//", "/*", "*", '"""', "'''")


class SpanKind(StrEnum):
    """The kind of code that is missing at a cut."""

    REST_OF_LINE = "rest of line"
    WHOLE_LINE = "whole line"
    ARGUMENTS = "arguments"
    BLOCK = "block"
    SPAN = "span"


SHARES = {
    SpanKind.REST_OF_LINE: 0.45,
    SpanKind.WHOLE_LINE: 0.15,
    SpanKind.ARGUMENTS: 0.15,
    SpanKind.BLOCK: 0.17,
    SpanKind.SPAN: 0.08,
}


@dataclass(frozen=True, slots=True)
class Cut:
    """A gap `text[start:end]`, to be written at `start`."""

    kind: SpanKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Span:
    """Cuts in text order; the suffix begins at `end`, at or after the end of every cut."""

    cuts: tuple[Cut, ...]
    end: int


def draw_span(text: str, count: int, draw: random.Random) -> Span | None:
    """A span with up to `count` cuts, or None if a few tries find no place for one.

    Half of the spans are a single gap with cuts at several places in it. The others reach over the
    lines around the gap, as if a function were written from the top.
    """
    first = _some_gap(text, draw)
    if first is None:
        return None
    found = {first}
    if draw.random() < 0.5:
        end = first.end
        for _ in range(count - 1):
            start = draw.randint(first.start, max(first.start, first.end - 2))
            if _worth(text[start:end]):
                kind = _later_kind(text, start, first)
                found.add(Cut(kind, start, end))
    else:
        end = _region_end(text, first, draw)
        low = text.rfind("\n", 0, first.start) + 1
        for _ in range(3 * count):
            gap = _gap_at(text, draw.randint(low, end - 1), _pick(draw), draw)
            if gap and low <= gap.start and gap.end <= end and _wanted(text, gap, draw):
                found.add(gap)
            if len(found) == count:
                break
    return Span(tuple(sorted(found, key=lambda c: (c.start, c.end))), end)


def _later_kind(text: str, start: int, gap: Cut) -> SpanKind:
    if start == gap.start or gap.kind in (SpanKind.ARGUMENTS, SpanKind.SPAN):
        return gap.kind
    return SpanKind.BLOCK if "\n" in text[start : gap.end] else SpanKind.REST_OF_LINE


def _pick(draw: random.Random) -> SpanKind:
    return draw.choices(list(SHARES), list(SHARES.values()))[0]


def _some_gap(text: str, draw: random.Random) -> Cut | None:
    for _ in range(20):
        gap = _gap_at(text, draw.randint(0, len(text) - 1), _pick(draw), draw)
        if gap and (gap.kind is SpanKind.SPAN or _wanted(text, gap, draw)):
            return gap
    return None


def _wanted(text: str, gap: Cut, draw: random.Random) -> bool:
    """Whether to use a gap: few in prose, and no span whose end the suffix does not show."""
    if gap.kind is SpanKind.SPAN:
        return False
    return not _is_prose(text, gap.start) or draw.random() < PROSE_SHARE


def _is_prose(text: str, offset: int) -> bool:
    """Whether the line reads as a comment or as text without any code in it."""
    line = text[_line_start(text, offset) : line_end(text, offset)].strip()
    if line.startswith(COMMENTS):
        return True
    return not (set(line) & set("()=[]{}<>;") or line.endswith(":") or line.startswith(KEYWORDS))


def _gap_at(text: str, offset: int, kind: SpanKind, draw: random.Random) -> Cut | None:
    """A gap of `kind` at or near `offset`, or None if there is none worth asking for."""
    if kind is SpanKind.SPAN:
        start, end = offset, min(len(text), offset + draw.randint(4, 120))
    elif kind is SpanKind.ARGUMENTS:
        start, end = _arguments(text, offset)
    elif kind is SpanKind.BLOCK:
        start, end = block(text, offset)
    else:
        start, end = offset, line_end(text, offset)
        if kind is SpanKind.WHOLE_LINE:
            start = _code_start(text, offset)
    if not _worth(text[start:end]) or end - start > 2 * MAX_GAP_CHARS:
        return None
    return Cut(kind, start, end)


def _worth(gap: str) -> bool:
    return len(gap.strip()) >= 2


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1


def line_end(text: str, offset: int) -> int:
    """The offset where the line at `offset` ends, trailing blanks left out."""
    end = text.find("\n", offset)
    end = len(text) if end < 0 else end
    return max(offset, offset + len(text[offset:end].rstrip()))


def _code_start(text: str, offset: int) -> int:
    start = _line_start(text, offset)
    line = text[start : line_end(text, start)]
    return start + len(line) - len(line.lstrip())


def _arguments(text: str, offset: int) -> tuple[int, int]:
    """The range inside the first bracket pair that opens from `offset` on in its line."""
    stop = line_end(text, offset)
    start = next((i for i in range(offset, stop) if text[i] in CLOSERS), -1)
    if start < 0:
        return offset, offset
    depth = 0
    for i in range(start, min(len(text), start + MAX_GAP_CHARS)):
        depth += (text[i] in CLOSERS) - (text[i] in CLOSERS.values())
        if depth == 0:
            return start + 1, i
    return offset, offset


def indent_of(line: str) -> int:
    """Leading white space, in characters."""
    return len(line) - len(line.lstrip())


def block(text: str, offset: int) -> tuple[int, int]:
    """The range from the end of the line at `offset` to the end of the block below it.

    It is empty if the next line is not deeper or the block has more than MAX_BLOCK_LINES lines. A
    line of closing brackets at the depth of the header does not belong to the block.
    """
    start = line_end(text, _line_start(text, offset))
    depth = indent_of(text[_line_start(text, offset) : start])
    end, lines, at = start, 0, text.find("\n", start)
    while at >= 0:
        stop = line_end(text, at + 1)
        line = text[at + 1 : stop]
        if line.strip():
            if indent_of(line) <= depth:
                return start, end
            end = stop
            lines += 1
            if lines > MAX_BLOCK_LINES:
                return start, start
        at = text.find("\n", max(stop, at + 1))
    return start, end


def _region_end(text: str, gap: Cut, draw: random.Random) -> int:
    """The end of a line a few lines below the gap."""
    end = gap.end
    for _ in range(draw.randint(1, 10)):
        at = text.find("\n", end)
        if at < 0 or at + 1 >= len(text):
            break
        end = max(at + 1, line_end(text, at + 1))
    return end
