"""From a request to what the model sees: a bounded part of the text, however long that is."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mercury_lsp.core.brackets import Scan, indentation, opened
from mercury_lsp.core.lexis import lexis
from mercury_lsp.core.similar import DOCUMENT_CHARS, DOCUMENTS, similar
from mercury_lsp.core.types import Context, GapKind, Request, Trigger

SYNTAX_BEFORE = 10_000
"""How much text before the cursor is looked at for syntax, in characters."""
SYNTAX_AFTER = 4_000
"""How much text after the cursor is looked at for syntax, in characters."""
ENCLOSING = 40_000
"""How far outside of that the lines of enclosing blocks are looked for, in characters."""
DEEPEST = 200
"""No line is indented further than this, in characters."""
STRIDES = 4
"""The start of the prefix moves by this part of its limit at a time: in between, the keys and
values that the model keeps stay valid while a person types."""

_LINE = re.compile(r"^([ \t]*)(?=[^\s)\]}*])", re.MULTILINE)
_OPENED = re.compile(r"^([ \t]*)\S.*[{:]\n+([ \t]*)(?=\S)", re.MULTILINE)
_CLOSING = re.compile(r"^([ \t]*)\}[)\]};,]*", re.MULTILINE)
_CALLED = re.compile(r"\b(?!(?:if|elif|while|for|switch|catch|match)\Z)\w+[!>]?\Z|[)\]]\Z")
_JOINERS = "\u200d\ufe0e\ufe0f"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of what the model may see, in characters; no snippets where it knows none."""

    prefix_chars: int
    suffix_chars: int
    snippet_chars: int = 0


def extract(request: Request, limits: Limits) -> Context:
    """What the model sees of `request`; bounded by `limits` and the constants above."""
    document, text, offset = request.document, request.document.text, _offset(request)
    pending = _pending(request) or ""
    low, high = _syntax_window(document.language, text, offset)
    head, foot = _headers(document.language, text, low), _footers(text, high)
    before = _unix(head + text[low:offset] + pending)
    after = _unix(text[offset:high] + foot)
    start, end = _start(text, offset, limits.prefix_chars), _end(text, offset, limits.suffix_chars)
    crlf = text.count("\r\n", low, high)
    return Context(
        language=document.language,
        prefix=_unix(text[start:offset] + pending),
        suffix=_unix(text[offset:end]),
        gap=_gap(opened(document.language, before), after),
        indent=_indent(document.language, before, after),
        snippets=similar(document, offset, request.others, limits.snippet_chars),
        newline="\r\n" if 2 * crlf > text.count("\n", low, high) else "\n",
        pending=_unix(pending),
        before=before,
        after=after,
        elsewhere=tuple(map(_unix, _elsewhere(request, start, end))),
    )


def worth_asking(request: Request, context: Context) -> bool:
    """Whether a completion could be of use: else the model need not be asked at all."""
    following = context.suffix[:1]
    if _pending(request) is None or "\0" in context.before or "\0" in context.after:
        return False
    if following and (unicodedata.combining(following) or following in _JOINERS):
        return False
    in_word = following.isalnum() or following == "_"
    return request.trigger is Trigger.INVOKED or not in_word


def _offset(request: Request) -> int:
    """The cursor, inside of the text and not inside of a line ending."""
    text = request.document.text
    offset = min(max(request.offset, 0), len(text))
    return offset - 1 if offset and text[offset - 1 : offset + 1] == "\r\n" else offset


def _elsewhere(request: Request, start: int, end: int) -> Iterator[str]:
    """What else is open, the last used last; then this document outside of `start` and `end`."""
    document, text = request.document, request.document.text
    for other in reversed(request.others[:DOCUMENTS]):
        if other.uri != document.uri:
            yield other.text[:DOCUMENT_CHARS]
    yield text[end : end + DOCUMENT_CHARS]
    yield text[max(0, start - DOCUMENT_CHARS) : start]


def _pending(request: Request) -> str | None:
    """What accepting the selected entry would add at the cursor; None if it does more than add."""
    chosen, offset = request.selected, _offset(request)
    if chosen is None:
        return ""
    typed = request.document.text[max(0, chosen.start) : offset]
    if chosen.end != offset or chosen.start > offset or not chosen.text.startswith(typed):
        return None
    return chosen.text[len(typed) :]


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").removesuffix("\r")


def _start(text: str, offset: int, limit: int) -> int:
    """Where a window of at most `limit` characters up to `offset` begins."""
    if offset <= limit:
        return 0
    stride = max(1, limit // STRIDES)
    low = -(-(offset - limit) // stride) * stride
    return min(_boundary(text, low, low + stride, low), offset)


def _end(text: str, offset: int, limit: int) -> int:
    """Where a window of at most `limit` characters from `offset` ends; typing does not move it."""
    high = offset + limit
    if high >= len(text):
        return len(text)
    return _boundary(text, high - limit // STRIDES, high, high)


def _syntax_window(language: str, text: str, offset: int) -> tuple[int, int]:
    """What is looked at for syntax: from one definition to another.

    There no string, comment or bracket is likely to be cut in two. Far from the cursor is best.
    """
    low, high = offset - SYNTAX_BEFORE, offset + SYNTAX_AFTER
    if low > 0:
        near = offset - SYNTAX_BEFORE // STRIDES
        found = _definitions(language, text, low, offset)
        first = min(((start > near, level, start) for level, start in found), default=None)
        low = first[-1] if first else _start(text, offset, SYNTAX_BEFORE)
    if high < len(text):
        near = offset + SYNTAX_AFTER // STRIDES
        found = _definitions(language, text, offset, high)
        last = min(((start < near, level, -start) for level, start in found), default=None)
        high = -last[-1] if last else _end(text, offset, SYNTAX_AFTER)
    return max(low, 0), min(high, len(text))


def _headers(language: str, text: str, low: int) -> str:
    """The lines above `low` that open the blocks in which it stands, as far as they are near."""
    level = len(indentation(text[low : low + DEEPEST]))
    opening = re.compile(rf"(?:{lexis(language).header})[ \t\r]*\n")
    enclosing: list[tuple[int, str]] = []
    for column, start in _definitions(language, text, max(0, low - ENCLOSING), low):
        while enclosing and enclosing[-1][0] >= column:
            enclosing.pop()
        end = text.find("\n", start, low) + 1
        if column < level and opening.search(text, start, end):
            enclosing.append((column, text[start:end]))
    return "".join(line for _, line in enclosing)


def _footers(text: str, high: int) -> str:
    """The lines below `high` that close the blocks in which it stands, as far as they are near."""
    level = len(indentation(text[high : high + DEEPEST]))
    closing = []
    for found in _CLOSING.finditer(text, high, high + ENCLOSING):
        if len(found[1]) < level:
            level = len(found[1])
            closing.append(found[0] + "\n")
    return "".join(closing)


def _definitions(language: str, text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The indentation and the start of each line that looks like a definition."""
    line = re.compile(rf"^([ \t]*)(?:{lexis(language).definition})", re.MULTILINE)
    return ((len(found[1]), found.start()) for found in line.finditer(text, low, high))


def _boundary(text: str, low: int, high: int, otherwise: int) -> int:
    """The first of the least indented lines between `low` and `high`.

    That is where a definition or a statement begins in any language, and also while the code is
    broken: a tree, which changes with every key then, would make windows jump.
    """
    found = _LINE.finditer(text, low, high)
    return min(((len(line[1]), line.start()) for line in found), default=(0, otherwise))[1]


def _gap(before: Scan, after: str) -> GapKind:
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
    """Whether a header stands above in whose block nothing stands yet, nor was it left again."""
    header = before.header()
    if header is None:
        return False
    level = len(before.statement(header))
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
    """One level of indentation as the lines around the cursor have it."""
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
