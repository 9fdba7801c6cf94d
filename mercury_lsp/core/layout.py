"""Indentation: a draft's lines made to stand where the document's lines would."""

import re
from itertools import pairwise

from mercury_lsp.core.brackets import Scan, indentation
from mercury_lsp.core.types import Context, GapKind

TAB_WIDTH = 8
"""Columns of a tab, where tabs and spaces must be compared at all."""

_BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")


def align(text: str, context: Context, before: Scan) -> str:
    """`text` indented as it must be after `before`; empty if it belongs to an outer block."""
    rest = (context.after or context.suffix).partition("\n")[0].strip()
    blank = not before.line.strip()
    if blank and not rest and context.gap not in (GapKind.STRING, GapKind.COMMENT):
        return _on_blank_line(text, context, before)
    header = before.header() if context.gap is GapKind.BLOCK else None
    fresh = _BLANK_LINES.match(text)
    if fresh and header is not None:
        body = text[fresh.end() :]
        body = _restyle(body, context.indent, before)
        return "\n" + _shift(body, before.statement(header) + context.indent)
    if before.line[-1:].isspace() and re.match(r" \S", text) and context.gap is not GapKind.STRING:
        text = text[1:]  # the space that follows a word stands there already
    head, newline, others = text.partition("\n")
    return head + newline + _restyle(others, context.indent, before)


def _on_blank_line(text: str, context: Context, before: Scan) -> str:
    line = before.line
    fresh = _BLANK_LINES.match(text)
    if fresh:
        text = text[fresh.end() :]
    elif line:
        text = line + text
    text = _restyle(text, context.indent, before)
    if fresh and _columns(indentation(text)) < _columns(line):
        return ""
    wanted = _wanted(text, context, before)
    text = _shift(text, wanted)
    return text[len(line) :] if text.startswith(line) else text.lstrip(" \t")


def _wanted(text: str, context: Context, before: Scan) -> str:
    """The indentation that the first line of `text` ought to have, at best the one it has."""
    level, line = indentation(text), before.line
    above, below = _neighbours(context, before)
    header = before.header()
    outer = above if header is None else before.statement(header)
    inner = above if header is None else outer + context.indent
    if line:
        if context.gap is GapKind.BLOCK and _columns(line) <= _columns(outer):
            return inner
        free = before.stack and _columns(level) - _columns(line) > 1
        return level if free or level in (above, below, inner) else line
    if before.stack or not before.lexis.indented:
        return level
    if context.gap is GapKind.BLOCK:
        return inner
    opens = text.partition("\n")[0].rstrip().endswith((":", "("))
    return max(level, "" if opens else min(above, below, key=_columns), key=_columns)


def _neighbours(context: Context, before: Scan) -> tuple[str, str]:
    """The indentation of the nearest lines with text above and below."""
    above = before.text.rstrip().rpartition("\n")[2]
    below = (context.after or context.suffix).lstrip("\n")
    first = next((line for line in below.split("\n") if line.strip()), "")
    return indentation(above), indentation(first)


def _shift(text: str, wanted: str) -> str:
    """`text` with its first line indented by `wanted` and its other lines moved along."""
    present = indentation(text)
    if present == wanted:
        return text
    first, *others = text.split("\n")
    moved = (wanted + line[len(present) :] if line.startswith(present) else line for line in others)
    return "\n".join((wanted + first[len(present) :], *moved))


def _restyle(text: str, unit: str, before: Scan) -> str:
    """`text` with leading tabs as spaces, or the other way, if the document has only the others."""
    if unit != "\t":
        if re.search(r"^ *\t", before.text, re.MULTILINE):
            return text
        return re.sub(r"^[ \t]*\t[ \t]*", lambda m: m[0].replace("\t", unit), text, flags=re.M)
    blanks = [indentation(line) for line in text.split("\n")]
    widths = [len(blank) for blank in blanks if blank and not blank.strip(" ")]
    width = next((n for n in (4, 2) if all(size % n == 0 for size in widths)), 0)
    if not widths or not width:
        return text
    return re.sub(r"^ +", lambda m: "\t" * (len(m[0]) // width), text, flags=re.M)


def _columns(blank: str) -> int:
    return len(blank.expandtabs(TAB_WIDTH))


def dedent(part: Scan, before: Scan) -> int | None:
    """Where the block that `part` continues ends: at the first line further out, or askew."""
    depth = len(before.stack)
    ends = [offset for offset, at in part.ends if at <= depth]
    inline = before.line.strip() and not part.text.startswith("\n")
    if inline:
        return ends[0] if ends else None
    starts = [offset + 1 for offset in ends]
    if not before.line.strip():
        starts.insert(0, 0)
    body, last = 0, 0
    levels: list[int | None] = [None]
    for start, stop in pairwise([*starts, len(part.text) + 1]):
        line = (before.line if start == 0 else "") + part.text[start : stop - 1]
        if not line.strip():
            continue
        column = len(indentation(line))
        body = body if last else column
        if not (_stands(column, levels) if part.lexis.indented else column >= body):
            return last
        last = stop - 1
        if _is_header(part, start, last):
            levels.append(None)
    return None


def _stands(column: int, levels: list[int | None]) -> bool:
    """Whether a line may begin at `column`, given the levels that are open, outermost first.

    None is the level of a block that a header has just opened.
    """
    if levels[-1] is None:
        levels[-1] = column
        return column > max((level for level in levels[:-1] if level is not None), default=-1)
    while len(levels) > 1 and column < (levels[-1] or 0):
        levels.pop()
    return column == levels[-1]


def _is_header(part: Scan, start: int, stop: int) -> bool:
    comments = (token for token in part.tokens if part.lexis.is_comment(token.kind))
    stop = next((token.start for token in comments if start <= token.start < stop), stop)
    return part.text[start:stop].rstrip().endswith(":")
