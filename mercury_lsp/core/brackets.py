"""Which brackets and quotes are open at a point, and what an insertion does to them."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from mercury_lsp.core.lexis import CLOSERS, OPENERS, Lexis, Token, lexis

_BEFORE, _TEXT, _AFTER = range(3)
_NEWLINE = re.compile(r"(?<!\\)\n")


@dataclass(frozen=True, slots=True)
class Scan:
    """A text as its brackets, strings and comments divide it.

    `stack` holds the brackets that stay open, outermost first; `strays` those that close nothing
    opened here. `ends` are the newlines outside of strings and comments, each with the number of
    brackets open there, counted from the depth at which the text began. `quote` is the kind of the
    string or comment in which the text ends, -1 if it ends in code.
    """

    text: str
    lexis: Lexis
    tokens: tuple[Token, ...]
    stack: tuple[Token, ...]
    strays: tuple[Token, ...]
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
        return sum(1 for _ in takewhile(lambda token: token.start < start, self.stack))

    def header(self) -> int | None:
        """The end of the header of a block in which nothing stands yet but comments and text."""
        if self.quote >= 0:
            return None
        end = len(self.text.rstrip())
        for token in reversed(self.tokens):
            if token.end != end or not self._stands_alone(token):
                break
            end = len(self.text[: token.start].rstrip())
        found = re.search(rf"(?:{self.lexis.header})\Z", self.text[max(0, end - 8) : end])
        if not found or (self.lexis.indented and self.stack):
            return None
        return end

    def _stands_alone(self, token: Token) -> bool:
        if self.lexis.is_comment(token.kind):
            return True
        before = self.text[self.text.rfind("\n", 0, token.start) + 1 : token.start]
        return token.kind >= 0 and self.lexis.indented and not before.strip("rRuUbBfF \t")

    def statement(self, end: int) -> str:
        """The indentation of the statement whose header ends at `end`."""
        depth = sum(1 for token in self.stack if token.start < end - 1)
        starts = [offset + 1 for offset, at in self.ends if offset < end and at <= depth]
        return indentation(self.text[starts[-1] if starts else 0 : end])


def scan(language: str, text: str, opened: int = -1, depth: int = 0) -> Scan:
    """Divide `text`, which begins in a token of kind `opened` (-1: code) at bracket `depth`."""
    rules = lexis(language)
    tokens = tuple(rules.tokens(text, opened))
    stack: list[Token] = []
    strays: list[Token] = []
    ends: list[tuple[int, int]] = []
    position = 0
    for token in tokens:
        for found in _NEWLINE.finditer(text, position, token.start):
            ends.append((found.start(), depth))
        position = token.end
        if not token.is_bracket:
            continue
        character = text[token.start]
        if character in OPENERS:
            stack.append(token)
            depth += 1
        else:
            depth = max(0, depth - 1)
            if stack and text[stack[-1].start] == CLOSERS[character]:
                stack.pop()
            else:
                strays.append(token)
    ends.extend((found.start(), depth) for found in _NEWLINE.finditer(text, position))
    quote = tokens[-1].kind if tokens and tokens[-1].open else -1
    return Scan(text, rules, tokens, tuple(stack), tuple(strays), tuple(ends), quote)


@lru_cache(maxsize=4)
def opened(language: str, before: str) -> Scan:
    """`scan` of the text before a cursor, remembered: each step of a keystroke asks for it."""
    return scan(language, before)


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left unmatched: of the inserted text, and of the text around it.

    Brackets that open after the cursor and stay open do not count: what follows is cut somewhere.
    """

    own: int
    around: int


def balance(before: Scan, text: str, after: str) -> Balance:
    """Match the brackets and quotes of `text` between the scanned text and `after`."""
    joined = text + after
    stack = [(before.text[token.start], _BEFORE) for token in before.stack]
    unmatched = [0, 0, 0]
    for number, token in enumerate(before.lexis.tokens(joined, before.quote)):
        where = _TEXT if token.start < len(text) else _AFTER
        if not token.is_bracket:
            if number == 0 and before.quote >= 0:
                unmatched[_BEFORE] += token.broken or token.open
            else:
                spills = token.end > len(text) and "\n" in joined[len(text) : token.end]
                unmatched[where] += token.broken or (where == _TEXT and spills)
            continue
        character = joined[token.start]
        if character in OPENERS:
            stack.append((character, where))
        elif stack and stack[-1][0] == CLOSERS[character]:
            stack.pop()
        else:
            unmatched[where] += 1
    for _, where in stack:
        unmatched[where] += where != _AFTER
    return Balance(unmatched[_TEXT], unmatched[_BEFORE] + unmatched[_AFTER])


def closing(part: Scan) -> str:
    """The brackets that close what `part` leaves open, innermost first."""
    return "".join(OPENERS[part.text[token.start]] for token in reversed(part.stack))


def indentation(line: str) -> str:
    """The blanks that `line` begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]
