"""From a draft to what may be inserted, or nothing. Nothing rather than bad.

Ends the draft where its gap ends, leaves out what already follows the cursor, and insists that
brackets, indentation and syntax hold. Bad drafts are input: nothing here raises.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from mercury_lsp.core import syntax
from mercury_lsp.core.brackets import Scan, balance, close_blocks, closing, onward, opened
from mercury_lsp.core.chance import of_first, of_whole
from mercury_lsp.core.layout import align, dedent
from mercury_lsp.core.types import Completion, Context, Draft, GapKind

DRAFT_CHARS = 8_192
"""How much of a draft is looked at, in characters."""
BOUNDARIES = 6
"""How many places to cut an unfinished line at are tried, the latest first."""
PARSES = 4
"""How many ways to end a draft are parsed at most."""
PASSES = 4
"""How often a draft is mended at most; one that is never right is dropped."""
BABBLE_CHARS = 400
"""How far from its end a draft is searched for repetition, in characters."""
BABBLE_MINIMUM = 24
"""A repetition shorter than this, in characters, may be meant."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_LAST_LINE = re.compile(r"\s*^[ \t]*(?:[)\]}][)\]};, ]*|fi|done|esac|end\w*)[ \t]*$", re.MULTILINE)
_ADDED = re.compile(r"[)\]}>\"'`:;, ]+")
_BABBLE = re.compile(r"(?P<unit>[^\n]{0,40}?\w[^\n]{0,40}?|[^\n]*\w[^\n]*\n)(?P=unit){3,}")
_BOUNDARY = re.compile(r"\w+(?=[^\w.:\\/(\[<@-])|[)\]}\"'`]|[;:](?=\s|\Z)")
_WORD_END = re.compile(r"\w+|[)\]}\"'`]")
_UNFINISHED = re.compile(
    r"(?:and|as|assert|async|await|case|catch|class|const|def|del|elif|else|except|extends|fn|for"
    r"|from|func|function|global|goto|if|implements|import|in|instanceof|interface|is|lambda|let"
    r"|match|mut|new|nonlocal|not|of|or|private|protected|pub|public|raise|return|static|struct"
    r"|switch|throw|throws|try|type|typeof|until|use|using|var|when|where|while|with|yield)"
)
"""Words after which a line is not done."""

_Proposal = tuple[str, int]
"""What to insert, and how much of the rest of the line it replaces."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The cursor and what surrounds it; `rest` is what follows on its line."""

    context: Context
    before: Scan
    after: str
    rest: str

    @property
    def single_line(self) -> bool:
        return bool(self.rest) or self.context.gap in (GapKind.STRING, GapKind.COMMENT)


def trim(draft: Draft, context: Context) -> Completion | None:
    """The part of `draft` that may be inserted at the cursor of `context`; None if none may."""
    place = _place(context)
    text, finished = draft.text, draft.finished
    for _ in range(PASSES):
        text = _aligned(text, place)
        end = _end_of_gap(text, place)
        finished = finished or end is not None
        proposals = _whole(text, end, place) if finished else _partial(text, place)
        elsewhere = _other_lines(place) if finished else ""
        chosen = _cleanest(islice(_fitting(proposals, place), PARSES), place, elsewhere)
        if chosen is None:
            return None
        if not finished or chosen[0] in (text, _clean(text[:end], place)):
            inserted = (context.pending + chosen[0]).replace("\n", context.newline)
            return Completion(inserted, chosen[1], _confidence(draft, chosen[0]), finished)
        text = chosen[0]  # mended; the same must be said of it as if it had been drafted so
    return None


def is_final(draft: Draft, context: Context) -> bool:
    """Whether the gap ends within `draft`, so that more text cannot change what `trim` says."""
    if "\n" not in draft.text:
        return False
    place = _place(context)
    return _end_of_gap(_aligned(draft.text, place), place) is not None


def beginning(draft: Draft, context: Context, worth: Callable[[int], float]) -> Completion | None:
    """The first words of `draft` that are worth most and may stand by themselves.

    `worth` says what so many of its first characters are worth; None if all that is 0 or less.
    """
    place = _place(context)
    text = _aligned(draft.text, place)
    last = len(text) if draft.finished else len(text) - 1  # a word at the end may go on
    words = (word for word in _WORD_END.finditer(text) if not _UNFINISHED.fullmatch(word[0]))
    ends = [word.end() for word in words if word.end() <= last]
    ranked = sorted(((worth(end), end) for end in ends), reverse=True)
    best = (
        (text[:end], 0)
        for value, end in ranked
        if value > 0 and not any(_overlaps(text[:end], place))
    )
    chosen = _cleanest(islice(_fitting(best, place), PARSES), place, "")
    if chosen is None or not draft.text.startswith(chosen[0]):
        return None
    inserted = (context.pending + chosen[0]).replace("\n", context.newline)
    return Completion(inserted, 0, of_first(draft, len(chosen[0])), finished=False)


def _confidence(draft: Draft, text: str) -> float:
    """The chance of what is left of the draft: of its beginning, or of as many of its lines."""
    if draft.text.startswith(text):
        return of_whole(draft, len(text))
    lines = draft.text.split("\n")[: text.count("\n") + 1]
    return of_whole(draft, len("\n".join(lines)))


def _place(context: Context) -> _Place:
    after = context.after or context.suffix
    before = opened(context.language, context.before or context.prefix)
    return _Place(context, before, after, after.partition("\n")[0].rstrip())


def _aligned(text: str, place: _Place) -> str:
    text = text[:DRAFT_CHARS].replace("\r\n", "\n")
    bad = _CONTROL.search(text)
    return align(text[: bad.start()] if bad else text, place.context, place.before)


def _end_of_gap(text: str, place: _Place) -> int | None:
    """Where what belongs into the gap ends in `text`; None if that is not to be seen yet."""
    if place.single_line:
        end = text.find("\n")
        return end if end >= 0 else None
    part, before = onward(place.before, text), place.before
    if place.context.gap is not GapKind.BLOCK:
        return next((offset for offset, at in part.ends if at <= before.line_depth), None)
    if before.stack and before.stack[-1].character == "{":
        return next((offset for offset, at in part.ends if at < len(before.stack)), None)
    return dedent(part, before)


def _whole(text: str, end: int | None, place: _Place) -> Iterator[_Proposal]:
    """The ways to insert a complete draft, best first."""
    gap = text[:end]
    if place.rest:
        yield from _before_rest(gap, place)
    elif place.single_line:
        yield gap, 0
    else:
        if (
            end is not None
            and not place.before.lexis.indented
            and place.context.gap is GapKind.BLOCK
        ):
            last = _LAST_LINE.match(text, end)
            if last:
                yield _without_following(text[: last.end()], place), 0
        gap = _without_following(gap, place)
        yield gap, 0
    part = onward(place.before, gap)
    if re.fullmatch(r".*[\w)\]}\"'`]\s*", gap):
        yield gap.rstrip() + closing(part), 0
    if place.before.quote >= 0 and part.tokens[0].close:
        yield gap[: part.tokens[0].end - part.tokens[0].close], 0
    yield gap[: part.leaves], 0


def _before_rest(text: str, place: _Place) -> Iterator[_Proposal]:
    """The ways to insert into the middle of a line: its rest must not stand there twice."""
    rest = place.rest.strip()
    if text.rstrip().endswith(rest):
        yield text.rstrip().removesuffix(rest), 0
    yield text, 0
    if _ADDED.fullmatch(rest) and _is_subsequence(place.rest, text):
        yield text, len(place.rest)


def _partial(text: str, place: _Place) -> Iterator[_Proposal]:
    """Where a draft that breaks off may be cut: at its last whole line, or its last whole words."""
    yield from ((text[:n], 0) for n in islice(_overlaps(text, place), 1))
    if place.context.gap in (GapKind.STRING, GapKind.COMMENT):
        yield text[: max(text.rfind(" "), 0)], 0
        return
    part, depth = onward(place.before, text), len(place.before.stack)
    for end in reversed([offset for offset, at in part.ends if at <= depth]):
        if text[:end].strip():
            yield _without_following(text[:end], place), 0
            return
    if part.ends:
        yield close_blocks(place.before, text[: part.ends[-1][0]].rstrip()), 0
    words = [found for found in _BOUNDARY.finditer(text) if not _UNFINISHED.fullmatch(found[0])]
    for found in words[: -BOUNDARIES - 1 : -1]:
        yield text[: found.end()], 0


def _overlaps(text: str, place: _Place) -> Iterator[int]:
    """Where the end of `text` begins to say what the rest of the line begins with, first first."""
    return (n for n in range(1, len(text)) if place.rest and place.rest.startswith(text[n:]))


def _without_following(text: str, place: _Place) -> str:
    """`text` up to where it begins to say what the document's next lines say already."""
    line, following = place.before.line, place.after.partition("\n")[2]
    below = [other.rstrip() for other in following.split("\n") if other.strip()]
    lines = (line + text).split("\n")
    for number, first in enumerate(lines):
        if not below or first.rstrip() != below[0]:
            continue
        if not re.search(r"\w", first) and not following.startswith(first.rstrip()):
            continue  # brackets further down may well close something else
        mine = [own.rstrip() for own in lines[number:] if own.strip()]
        beside = below[: len(mine)]
        cut_short = len(mine) == len(beside) > 1 and beside[-1].startswith(mine[-1])
        if mine == beside or (cut_short and mine[:-1] == beside[:-1]):
            return "\n".join(lines[:number])[len(line) :]
    return text


def _fitting(proposals: Iterable[_Proposal], place: _Place) -> Iterator[_Proposal]:
    """The proposals that are worthwhile and whose brackets match no worse than without them."""
    before = place.before
    mark = before.lexis.quotes[before.quote].close if before.quote >= 0 else ""
    without = [balance(before, text, place.after) for text in {"", mark}]
    tried = set()
    for proposed, replaces in proposals:
        text = _clean(proposed, place)
        if (text, replaces) in tried or not _is_worthwhile(text, place):
            continue
        tried.add((text, replaces))
        unmatched = balance(before, text, place.after[replaces:])
        if any(unmatched.is_bearable(other) for other in without):
            yield text, replaces


def _clean(text: str, place: _Place) -> str:
    text = _TRAILING.sub("", text) if "\n" in text else text
    joins = place.rest and place.rest[0] not in " \t)]},;:"
    return text if joins else text.rstrip()


def _is_worthwhile(text: str, place: _Place) -> bool:
    """Whether `text` says anything, and anything new."""
    if not text.strip() or place.after.startswith(text):
        return False
    babble = _BABBLE.search(text, max(0, len(text) - BABBLE_CHARS))
    if babble and len(babble[0]) >= max(BABBLE_MINIMUM, len(text) // 2):
        return False
    line = place.before.line
    above = place.before.text.removesuffix(line).rstrip().rpartition("\n")[2]
    return bool(place.rest) or (line + text).rstrip() != above


def _other_lines(place: _Place) -> str:
    before = place.before
    return before.text.removesuffix(before.line) + place.after.partition("\n")[2]


def _cleanest(proposals: Iterable[_Proposal], place: _Place, elsewhere: str) -> _Proposal | None:
    """The first proposal with which there is no error, else the one with the fewest.

    There may be no more than without it; but where there are some anyway, as many more as the text
    `elsewhere` has (a dialect, macros) say nothing against a proposal.
    """
    language, before, after = place.context.language, place.before, place.after
    best: tuple[int, _Proposal] | None = None
    safe = None
    for text, replaces in proposals:
        if before.quote >= 0 and onward(before, text).quote == before.quote:
            safe = text, replaces  # more words in a string are neither right nor wrong
            break
        errors = syntax.errors(language, before.text + text + after[replaces:]) or 0
        if not errors:
            return text, replaces
        if best is None or errors < best[0]:
            best = errors, (text, replaces)
    if best is None:
        return safe
    bearable = syntax.errors(language, before.text + after) or 0
    if bearable:
        bearable += syntax.errors(language, elsewhere) or 0
    return best[1] if best[0] <= bearable else safe


def _is_subsequence(small: str, large: str) -> bool:
    characters = iter(large)
    return all(character in characters for character in small)
