"""Which brackets and quotes are open at a point, and what an insertion does to them."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from mercury_lsp.core.lexis import CLOSERS, OPENERS, Lexis, Token, lexis

LEAD = 8
"""How many characters before a text are enough to tell with what it begins."""

_NEWLINE = re.compile(r"(?<!\\)\n")


class Bracket(NamedTuple):
    """A bracket at an offset, which is negative if it stands in the text before."""

    start: int
    character: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A text as its brackets, strings and comments divide it.

    `stack` holds the brackets open at its end, outermost first; `strays` those without their
    counterpart. `leaves` is where the text first closes what was open before it, if it does.
    `ends` are the newlines outside of strings and comments, each with how many brackets are open
    there. `quote` is the kind of the string or comment in which the text ends, -1 for code.
    """

    text: str
    lexis: Lexis
    tokens: tuple[Token, ...]
    stack: tuple[Bracket, ...]
    strays: tuple[Bracket, ...]
    leaves: int | None
    ends: tuple[tuple[int, int], ...]
    quote: int

    @property
    def line(self) -> str:
        """The last line."""
        return self.text[self.text.rfind("\n") + 1 :]

    @property
    def line_depth(self) -> int:
        """How many of the open brackets were opened on lines before the last."""
        start = len(self.text) - len(self.line)
        return sum(1 for _ in takewhile(lambda bracket: bracket.start < start, self.stack))

    def header(self) -> int | None:
        """The end of the header of a block in which nothing stands yet but comments and text."""
        if self.quote >= 0 or (self.lexis.indented and self.stack):
            return None
        end = len(self.text.rstrip())
        for token in reversed(self.tokens):
            if token.end != end or not self._stands_alone(token):
                break
            end = len(self.text[: token.start].rstrip())
        found = re.search(rf"(?:{self.lexis.header})\Z", self.text[max(0, end - 8) : end])
        return end if found else None

    def _stands_alone(self, token: Token) -> bool:
        if self.lexis.is_comment(token.kind):
            return True
        before = self.text[self.text.rfind("\n", 0, token.start) + 1 : token.start]
        return token.kind >= 0 and self.lexis.indented and not before.strip("rRuUbBfF \t")

    def statement(self, end: int) -> str:
        """The indentation of the statement whose header ends at `end`."""
        depth = sum(1 for bracket in self.stack if bracket.start < end - 1)
        starts = [offset + 1 for offset, at in self.ends if offset < end and at <= depth]
        return indentation(self.text[starts[-1] if starts else 0 : end])


@lru_cache(maxsize=4)
def opened(language: str, before: str) -> Scan:
    """Divide the text before a cursor. Remembered: each step of a keystroke asks for it."""
    return _scan(lexis(language), "", before, -1, [])


def onward(before: Scan, text: str) -> Scan:
    """Divide the text that follows `before`."""
    shift = len(before.text)
    stack = [bracket._replace(start=bracket.start - shift) for bracket in before.stack]
    return _scan(before.lexis, before.text[-LEAD:], text, before.quote, stack)


def _scan(rules: Lexis, lead: str, text: str, quote: int, stack: list[Bracket]) -> Scan:
    tokens = tuple(rules.tokens(text, quote, lead))
    strays: list[Bracket] = []
    ends: list[tuple[int, int]] = []
    position, leaves = 0, None
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
        depth = _counterpart(stack, bracket.character)
        if leaves is None and (depth is None or stack[depth].start < 0):
            leaves = token.start
        if depth is None:
            strays.append(bracket)
        else:
            strays += stack[depth + 1 :]
            del stack[depth:]
    ends += ((found.start(), len(stack)) for found in _NEWLINE.finditer(text, position))
    quote = tokens[-1].kind if tokens and tokens[-1].open else -1
    return Scan(text, rules, tokens, tuple(stack), tuple(strays), leaves, tuple(ends), quote)


def _counterpart(stack: list[Bracket], closer: str) -> int | None:
    """Which bracket of the stack `closer` closes; a brace closes over forgotten parentheses."""
    depth = len(stack) - 1
    while closer == "}" and depth >= 0 and stack[depth].character != "{":
        depth -= 1
    return depth if depth >= 0 and stack[depth].character == CLOSERS[closer] else None


@dataclass(frozen=True, slots=True)
class Balance:
    """How many brackets and quotes are left unmatched: inserted ones, and ones around them.

    Of those around, the ones that nothing closes count apart from the others. What opens after
    the cursor and stays open does not count: that text is cut somewhere.
    """

    own: int
    unclosed: int
    others: int

    def is_bearable(self, without: "Balance") -> bool:
        """Whether nothing inserted is unmatched, and no more around it than there was."""
        return not self.own and self.unclosed <= without.unclosed and self.others <= without.others


def balance(before: Scan, text: str, after: str) -> Balance:
    """Match the brackets and quotes of `text` between the scanned text and `after`."""
    part = onward(before, text + after + "\n")
    edge = len(text)
    own = others = 0
    for number, token in enumerate(part.tokens):
        if token.is_bracket:
            continue
        spilt = part.text[edge : token.end] if token.start < edge else ""
        comment = before.lexis.is_comment(token.kind)
        spills = bool(spilt.strip()) if comment else "\n" in spilt
        if number == 0 and before.quote >= 0:
            others += token.broken or token.open
        elif token.start < edge:
            own += token.broken or spills
        else:
            others += token.broken
    own += sum(0 <= bracket.start < edge for bracket in (*part.stack, *part.strays))
    unclosed = sum(bracket.start < 0 for bracket in (*part.stack, *part.strays))
    others += sum(bracket.start >= edge for bracket in part.strays)
    return Balance(own, unclosed, others)


def closing(part: Scan) -> str:
    """The brackets that close what `part` itself leaves open, innermost first."""
    own = (bracket for bracket in reversed(part.stack) if bracket.start >= 0)
    return "".join(OPENERS[bracket.character] for bracket in own)


def close_blocks(before: Scan, text: str) -> str:
    """`text`, whole lines, and the braces that close the blocks it opens; empty if that is not
    what it takes."""
    opened = [bracket for bracket in onward(before, text).stack if bracket.start >= 0]
    if text[-1:] in OPENERS or any(bracket.character != "{" for bracket in opened):
        return ""
    lines = before.line + text
    for bracket in reversed(opened):
        start = lines.rfind("\n", 0, len(before.line) + bracket.start) + 1
        text += "\n" + indentation(lines[start:]) + "}"
    return text


def indentation(line: str) -> str:
    """The blanks that `line` begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]
