"""Builds the `Context` of a request: bounded windows on documents of any length."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mercury_lsp.core.brackets import Scan, indentation, scan_prefix
from mercury_lsp.core.lexis import lexis
from mercury_lsp.core.similar import DOCUMENT_CHARS, DOCUMENTS, similar
from mercury_lsp.core.types import Context, GapKind, Request, Trigger

SYNTAX_BEFORE_CHARS = 10_000
"""How much text before the cursor is scanned for syntax."""
SYNTAX_AFTER_CHARS = 4_000
"""How much text after the cursor is scanned for syntax."""
ENCLOSING_CHARS = 40_000
"""How far beyond the syntax window the search for enclosing blocks goes."""
MAX_INDENT_CHARS = 200
"""The deepest indentation that is considered."""
STRIDES_PER_WINDOW = 4
"""The start of the prefix moves in strides of this fraction of its limit. Between two moves the
model's KV cache stays valid while the user types."""

_LINE = re.compile(r"^([ \t]*)(?=[^\s)\]}*])", re.MULTILINE)
_OPENED = re.compile(r"^([ \t]*)\S.*[{:]\n+([ \t]*)(?=\S)", re.MULTILINE)
_CLOSING = re.compile(r"^([ \t]*)\}[)\]};,]*", re.MULTILINE)
_CALLED = re.compile(r"\b(?!(?:if|elif|while|for|switch|catch|match)\Z)\w+[!>]?\Z|[)\]]\Z")
_JOINERS = "\u200d\ufe0e\ufe0f"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much text the model may see, in characters. `snippet_chars` is 0 for no snippets."""

    prefix_chars: int
    suffix_chars: int
    snippet_chars: int = 0


def extract(request: Request, limits: Limits) -> Context:
    """Build the context of `request`, bounded by `limits` and the constants above."""
    document, text, offset = request.document, request.document.text, _offset(request)
    pending = _pending(request) or ""
    low, high = _syntax_window(document.language, text, offset)
    head, foot = _enclosing_headers(document.language, text, low), _enclosing_closers(text, high)
    before = _with_unix_newlines(head + text[low:offset] + pending)
    after = _with_unix_newlines(text[offset:high] + foot)
    start, end = (
        _window_start(text, offset, limits.prefix_chars),
        _window_end(text, offset, limits.suffix_chars),
    )
    crlf = text.count("\r\n", low, high)
    return Context(
        language=document.language,
        prefix=_with_unix_newlines(text[start:offset] + pending),
        suffix=_with_unix_newlines(text[offset:end]),
        gap=_gap_kind(scan_prefix(document.language, before), after),
        indent=_indent(document.language, before, after),
        snippets=similar(document, offset, request.others, limits.snippet_chars),
        newline="\r\n" if 2 * crlf > text.count("\n", low, high) else "\n",
        pending=_with_unix_newlines(pending),
        before=before,
        after=after,
        elsewhere=tuple(map(_with_unix_newlines, _other_text(request, start, end))),
    )


def worth_asking(request: Request, context: Context) -> bool:
    """Whether a completion could be useful here. If not, the model is not called."""
    following = context.suffix[:1]
    if _pending(request) is None or "\0" in context.before or "\0" in context.after:
        return False
    if following and (unicodedata.combining(following) or following in _JOINERS):
        return False
    in_word = following.isalnum() or following == "_"
    return request.trigger is Trigger.INVOKED or not in_word


def _offset(request: Request) -> int:
    """The cursor offset, clamped to the text and never between `\\r` and `\\n`."""
    text = request.document.text
    offset = min(max(request.offset, 0), len(text))
    return offset - 1 if offset and text[offset - 1 : offset + 1] == "\r\n" else offset


def _other_text(request: Request, start: int, end: int) -> Iterator[str]:
    """Other open documents, most recent last, then this one outside `start` and `end`."""
    document, text = request.document, request.document.text
    for other in reversed(request.others[:DOCUMENTS]):
        if other.uri != document.uri:
            yield other.text[:DOCUMENT_CHARS]
    yield text[end : end + DOCUMENT_CHARS]
    yield text[max(0, start - DOCUMENT_CHARS) : start]


def _pending(request: Request) -> str | None:
    """The text that the selected menu entry would insert at the cursor.

    None if accepting the entry would also replace text.
    """
    chosen, offset = request.selected, _offset(request)
    if chosen is None:
        return ""
    typed = request.document.text[max(0, chosen.start) : offset]
    if chosen.end != offset or chosen.start > offset or not chosen.text.startswith(typed):
        return None
    return chosen.text[len(typed) :]


def _with_unix_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").removesuffix("\r")


def _window_start(text: str, offset: int, limit: int) -> int:
    """The start of a window of at most `limit` characters that ends at `offset`."""
    if offset <= limit:
        return 0
    stride = max(1, limit // STRIDES_PER_WINDOW)
    low = -(-(offset - limit) // stride) * stride
    return min(_least_indented_line(text, low, low + stride, low), offset)


def _window_end(text: str, offset: int, limit: int) -> int:
    """The end of a window of at most `limit` characters from `offset`. Typing does not move it."""
    high = offset + limit
    if high >= len(text):
        return len(text)
    return _least_indented_line(text, high - limit // STRIDES_PER_WINDOW, high, high)


def _syntax_window(language: str, text: str, offset: int) -> tuple[int, int]:
    """The window to scan for syntax, from one definition to another.

    A definition line is unlikely to be inside a string, comment or bracket. Definitions far from
    the cursor are preferred.
    """
    low, high = offset - SYNTAX_BEFORE_CHARS, offset + SYNTAX_AFTER_CHARS
    if low > 0:
        near = offset - SYNTAX_BEFORE_CHARS // STRIDES_PER_WINDOW
        found = _definition_lines(language, text, low, offset)
        first = min(((start > near, level, start) for level, start in found), default=None)
        low = first[-1] if first else _window_start(text, offset, SYNTAX_BEFORE_CHARS)
    if high < len(text):
        near = offset + SYNTAX_AFTER_CHARS // STRIDES_PER_WINDOW
        found = _definition_lines(language, text, offset, high)
        last = min(((start < near, level, -start) for level, start in found), default=None)
        high = -last[-1] if last else _window_end(text, offset, SYNTAX_AFTER_CHARS)
    return max(low, 0), min(high, len(text))


def _enclosing_headers(language: str, text: str, low: int) -> str:
    """The lines above `low` that open its enclosing blocks, within `ENCLOSING_CHARS`."""
    level = len(indentation(text[low : low + MAX_INDENT_CHARS]))
    opening = re.compile(rf"(?:{lexis(language).header})[ \t\r]*\n")
    enclosing: list[tuple[int, str]] = []
    for column, start in _definition_lines(language, text, max(0, low - ENCLOSING_CHARS), low):
        while enclosing and enclosing[-1][0] >= column:
            enclosing.pop()
        end = text.find("\n", start, low) + 1
        if column < level and opening.search(text, start, end):
            enclosing.append((column, text[start:end]))
    return "".join(line for _, line in enclosing)


def _enclosing_closers(text: str, high: int) -> str:
    """The lines below `high` that close its enclosing blocks, within `ENCLOSING_CHARS`."""
    level = len(indentation(text[high : high + MAX_INDENT_CHARS]))
    closing = []
    for found in _CLOSING.finditer(text, high, high + ENCLOSING_CHARS):
        if len(found[1]) < level:
            level = len(found[1])
            closing.append(found[0] + "\n")
    return "".join(closing)


def _definition_lines(language: str, text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The indentation and the offset of each line that looks like a definition."""
    line = re.compile(rf"^([ \t]*)(?:{lexis(language).definition})", re.MULTILINE)
    return ((len(found[1]), found.start()) for found in line.finditer(text, low, high))


def _least_indented_line(text: str, low: int, high: int, otherwise: int) -> int:
    """The first of the least indented lines between `low` and `high`.

    A definition or statement begins there in any language, even while the code is broken. A syntax
    tree of broken code changes with every key, so windows based on it would jump.
    """
    found = _LINE.finditer(text, low, high)
    return min(((len(line[1]), line.start()) for line in found), default=(0, otherwise))[1]


def _gap_kind(before: Scan, after: str) -> GapKind:
    if before.quote >= 0:
        return GapKind.COMMENT if before.lexis.is_comment(before.quote) else GapKind.STRING
    line_is_blank = not before.line.strip()
    nothing_follows = not after.partition("\n")[0].strip()
    if nothing_follows and _is_in_empty_block(before, after):
        return GapKind.BLOCK
    if _is_in_call(before):
        return GapKind.ARGUMENTS
    return GapKind.WHOLE_LINE if line_is_blank and nothing_follows else GapKind.REST_OF_LINE


def _is_in_empty_block(before: Scan, after: str) -> bool:
    """Whether the cursor is in the still empty block of the header above it."""
    header = before.header_end()
    if header is None:
        return False
    level = len(before.statement_indent(header))
    following = next((line for line in after.split("\n") if line.strip()), "")
    if following and len(indentation(following)) > level:
        return False
    line = before.line
    return bool(line.strip()) or len(line) > level or (not line and header > len(before.text) - 2)


def _is_in_call(before: Scan) -> bool:
    if not before.stack:
        return False
    start = before.stack[-1].start
    called = before.text[max(0, start - 40) : start]
    return before.stack[-1].character == "(" and _CALLED.search(called) is not None


def _indent(language: str, before: str, after: str) -> str:
    """One level of indentation, inferred from the lines around the cursor."""
    lines = _LINE.findall(before) + _LINE.findall(after)
    indented = [line for line in lines if line]
    if not indented:
        return "\t" if language == "go" else "    "
    if 2 * sum(line[0] == "\t" for line in indented) > len(indented):
        return "\t"
    opened = _OPENED.findall(before) + _OPENED.findall(after)
    steps = Counter(len(b) - len(a) for a, b in opened or pairwise(lines))
    likely = [(count, step) for step, count in steps.items() if 2 <= step <= 8]
    return " " * max(likely, default=(0, 4))[1]
