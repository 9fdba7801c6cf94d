"""Bracket and quote matching: what is open at the cursor, and how an insertion changes it."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from mercury_lsp.core.lexis import CLOSERS, OPENERS, Lexis, Token, lexis

LOOKBEHIND_CHARS = 8
"""How much text before a scanned text its first token may depend on, in characters."""

_NEWLINE = re.compile(r"(?<!\\)\n")


class Bracket(NamedTuple):
    """A bracket and its offset. The offset is negative for a bracket in the preceding text."""

    start: int
    character: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A text split into brackets, strings and comments.

    `stack` holds the brackets still open at the end of the text, outermost first. `unmatched` holds
    the brackets that have no partner. `outer_close` is the offset of the first closing bracket
    whose partner is not in the text. `line_ends` lists the newlines outside strings and comments,
    each as (offset, number of open brackets). `quote` is the kind of string or comment that the
    text ends in, or -1 for code.
    """

    text: str
    lexis: Lexis
    tokens: tuple[Token, ...]
    stack: tuple[Bracket, ...]
    unmatched: tuple[Bracket, ...]
    outer_close: int | None
    line_ends: tuple[tuple[int, int], ...]
    quote: int

    @property
    def line(self) -> str:
        """The last line."""
        return self.text[self.text.rfind("\n") + 1 :]

    @property
    def line_depth(self) -> int:
        """How many of the open brackets were opened before the last line."""
        start = len(self.text) - len(self.line)
        return sum(1 for _ in takewhile(lambda bracket: bracket.start < start, self.stack))

    def header_end(self) -> int | None:
        """The offset where a block header ends, if only comments and docstrings follow it."""
        if self.quote >= 0 or (self.lexis.indented and self.stack):
            return None
        end = len(self.text.rstrip())
        for token in reversed(self.tokens):
            if token.end != end or not self._is_comment_or_docstring(token):
                break
            end = len(self.text[: token.start].rstrip())
        found = re.search(rf"(?:{self.lexis.header})\Z", self.text[max(0, end - 8) : end])
        return end if found else None

    def _is_comment_or_docstring(self, token: Token) -> bool:
        if self.lexis.is_comment(token.kind):
            return True
        before = self.text[self.text.rfind("\n", 0, token.start) + 1 : token.start]
        return token.kind >= 0 and self.lexis.indented and not before.strip("rRuUbBfF \t")

    def statement_indent(self, end: int) -> str:
        """The indentation of the statement whose header ends at offset `end`."""
        depth = sum(1 for bracket in self.stack if bracket.start < end - 1)
        starts = [offset + 1 for offset, at in self.line_ends if offset < end and at <= depth]
        return indentation(self.text[starts[-1] if starts else 0 : end])


@lru_cache(maxsize=4)
def scan_prefix(language: str, before: str) -> Scan:
    """Scan the text before the cursor. Cached, because every denoising step asks for it."""
    return _scan(lexis(language), "", before, -1, [])


def scan_after(before: Scan, text: str) -> Scan:
    """Scan `text`, which follows `before`."""
    shift = len(before.text)
    stack = [bracket._replace(start=bracket.start - shift) for bracket in before.stack]
    return _scan(before.lexis, before.text[-LOOKBEHIND_CHARS:], text, before.quote, stack)


def _scan(language: Lexis, lookbehind: str, text: str, quote: int, stack: list[Bracket]) -> Scan:
    tokens = tuple(language.tokens(text, quote, lookbehind))
    unmatched: list[Bracket] = []
    ends: list[tuple[int, int]] = []
    position, outer_close = 0, None
    for token in tokens:
        ends += (
            (found.start(), len(stack)) for found in _NEWLINE.finditer(text, position, token.start)
        )
        position = token.end
        if not token.is_bracket:
            continue
        bracket = Bracket(token.start, text[token.start])
        if bracket.character in OPENERS:
            stack.append(bracket)
            continue
        depth = _matching_opener(stack, bracket.character)
        if outer_close is None and (depth is None or stack[depth].start < 0):
            outer_close = token.start
        if depth is None:
            unmatched.append(bracket)
        else:
            unmatched += stack[depth + 1 :]
            del stack[depth:]
    ends += ((found.start(), len(stack)) for found in _NEWLINE.finditer(text, position))
    quote = tokens[-1].kind if tokens and tokens[-1].open else -1
    return Scan(
        text=text,
        lexis=language,
        tokens=tokens,
        stack=tuple(stack),
        unmatched=tuple(unmatched),
        outer_close=outer_close,
        line_ends=tuple(ends),
        quote=quote,
    )


def _matching_opener(stack: list[Bracket], closer: str) -> int | None:
    """The stack index of the bracket that `closer` closes, or None.

    A closing brace skips parentheses and brackets that were left open.
    """
    depth = len(stack) - 1
    while closer == "}" and depth >= 0 and stack[depth].character != "{":
        depth -= 1
    return depth if depth >= 0 and stack[depth].character == CLOSERS[closer] else None


@dataclass(frozen=True, slots=True)
class Balance:
    """Counts of unmatched brackets and quotes around and inside an insertion.

    `inserted` counts those in the inserted text, `unclosed` the openers before the cursor that
    nothing closes, and `surrounding` all other unmatched ones in the document. An opener after the
    cursor that stays open is not counted, because the text is cut off somewhere below it.
    """

    inserted: int
    unclosed: int
    surrounding: int

    def is_no_worse_than(self, without: "Balance") -> bool:
        """Whether the insertion is balanced and leaves no more unmatched than `without` it."""
        return (
            not self.inserted
            and self.unclosed <= without.unclosed
            and self.surrounding <= without.surrounding
        )


def balance(before: Scan, text: str, after: str) -> Balance:
    """Match brackets and quotes with `text` inserted between `before` and `after`."""
    part = scan_after(before, text + after + "\n")
    edge = len(text)
    inserted = surrounding = 0
    for number, token in enumerate(part.tokens):
        if token.is_bracket:
            continue
        overrun = part.text[edge : token.end] if token.start < edge else ""
        comment = before.lexis.is_comment(token.kind)
        overruns = bool(overrun.strip()) if comment else "\n" in overrun
        if number == 0 and before.quote >= 0:
            surrounding += token.broken or token.open
        elif token.start < edge:
            inserted += token.broken or overruns
        else:
            surrounding += token.broken
    inserted += sum(0 <= bracket.start < edge for bracket in (*part.stack, *part.unmatched))
    unclosed = sum(bracket.start < 0 for bracket in (*part.stack, *part.unmatched))
    surrounding += sum(bracket.start >= edge for bracket in part.unmatched)
    return Balance(inserted, unclosed, surrounding)


def missing_closers(part: Scan) -> str:
    """The brackets that close everything `part` itself leaves open, innermost first."""
    inserted = (bracket for bracket in reversed(part.stack) if bracket.start >= 0)
    return "".join(OPENERS[bracket.character] for bracket in inserted)


def close_blocks(before: Scan, text: str) -> str:
    """`text` (whole lines) followed by the braces that close the blocks it opens.

    Empty if braces alone do not complete it.
    """
    opened = [bracket for bracket in scan_after(before, text).stack if bracket.start >= 0]
    if text[-1:] in OPENERS or any(bracket.character != "{" for bracket in opened):
        return ""
    lines = before.line + text
    for bracket in reversed(opened):
        start = lines.rfind("\n", 0, len(before.line) + bracket.start) + 1
        text += "\n" + indentation(lines[start:]) + "}"
    return text


def indentation(line: str) -> str:
    """The leading spaces and tabs of `line`."""
    return line[: len(line) - len(line.lstrip(" \t"))]
