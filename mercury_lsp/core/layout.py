"""Indentation: aligns the lines of a draft with the document."""

import re
from itertools import pairwise

from mercury_lsp.core.brackets import Scan, indentation
from mercury_lsp.core.types import Context, GapKind

TAB_WIDTH = 8
"""Columns per tab when tabs and spaces have to be compared."""

_BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")


def align(text: str, context: Context, before: Scan) -> str:
    """`text` indented to follow `before`. Empty if it belongs to an outer block."""
    rest = (context.after or context.suffix).partition("\n")[0].strip()
    blank = not before.line.strip()
    if blank and not rest and context.gap not in (GapKind.STRING, GapKind.COMMENT):
        return _on_blank_line(text, context, before)
    header = before.header_end() if context.gap is GapKind.BLOCK else None
    newlines = _BLANK_LINES.match(text)
    if newlines and header is not None:
        body = text[newlines.end() :]
        body = _convert_indentation(body, context.indent, before)
        return "\n" + _reindent(body, before.statement_indent(header) + context.indent)
    if before.line[-1:].isspace() and re.match(r" \S", text) and context.gap is not GapKind.STRING:
        text = text[1:]  # the document already has the space
    head, newline, others = text.partition("\n")
    return head + newline + _convert_indentation(others, context.indent, before)


def _on_blank_line(text: str, context: Context, before: Scan) -> str:
    line = before.line
    newlines = _BLANK_LINES.match(text)
    if newlines:
        text = text[newlines.end() :]
    elif line:
        text = line + text
    text = _convert_indentation(text, context.indent, before)
    if newlines and _columns(indentation(text)) < _columns(line):
        return ""
    expected = _expected_indent(text, context, before)
    text = _reindent(text, expected)
    return text[len(line) :] if text.startswith(line) else text.lstrip(" \t")


def _expected_indent(text: str, context: Context, before: Scan) -> str:
    """The indentation that the first line of `text` should have. Keeps its own if valid."""
    level, line = indentation(text), before.line
    above, below = _adjacent_indents(context, before)
    header = before.header_end()
    outer = above if header is None else before.statement_indent(header)
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


def _adjacent_indents(context: Context, before: Scan) -> tuple[str, str]:
    """The indentation of the nearest non-empty lines above and below."""
    above = before.text.rstrip().rpartition("\n")[2]
    below = (context.after or context.suffix).lstrip("\n")
    first = next((line for line in below.split("\n") if line.strip()), "")
    return indentation(above), indentation(first)


def _reindent(text: str, expected: str) -> str:
    """`text` with its first line indented by `expected` and the other lines shifted with it."""
    present = indentation(text)
    if present == expected:
        return text
    first, *others = text.split("\n")
    shifted = (
        expected + line[len(present) :] if line.startswith(present) else line for line in others
    )
    return "\n".join((expected + first[len(present) :], *shifted))


def _convert_indentation(text: str, unit: str, before: Scan) -> str:
    """`text` with leading tabs as spaces or spaces as tabs, to match the document."""
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


def block_end(part: Scan, before: Scan) -> int | None:
    """The offset where the block that `part` continues ends, or None.

    A line ends the block if it is dedented or fits no open indentation level.
    """
    depth = len(before.stack)
    ends = [offset for offset, at in part.line_ends if at <= depth]
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
        if not (_is_valid_column(column, levels) if part.lexis.indented else column >= body):
            return last
        last = stop - 1
        if _is_header(part, start, last):
            levels.append(None)
    return None


def _is_valid_column(column: int, levels: list[int | None]) -> bool:
    """Whether a line may begin at `column`, given the open levels, outermost first.

    The level of a block whose header was just seen is None. Updates `levels`.
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
