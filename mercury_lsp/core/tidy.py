"""Turns a draft into a completion, or into nothing if no part of it is good enough.

It cuts the draft where the completion should end, removes text that already follows the cursor, and
requires valid brackets, indentation and syntax. It accepts any draft and never raises.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from mercury_lsp.core import syntax
from mercury_lsp.core.brackets import (
    Scan,
    balance,
    close_blocks,
    missing_closers,
    scan_after,
    scan_prefix,
)
from mercury_lsp.core.chance import complete_chance, prefix_chance
from mercury_lsp.core.layout import align, block_end
from mercury_lsp.core.types import Completion, Context, Draft, GapKind

MAX_DRAFT_CHARS = 8_192
"""The rest of a longer draft is ignored."""
MAX_CUTS = 6
"""How many places to cut an unfinished line are tried, latest first."""
MAX_PARSES = 4
"""How many proposals are parsed at most."""
MAX_REPAIRS = 4
"""How often a draft is repaired before it is dropped."""
REPETITION_CHARS = 400
"""How far from its end a draft is searched for repetition."""
MIN_REPETITION_CHARS = 24
"""A shorter repetition may be intended."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_LAST_LINE = re.compile(r"\s*^[ \t]*(?:[)\]}][)\]};, ]*|fi|done|esac|end\w*)[ \t]*$", re.MULTILINE)
_ADDED = re.compile(r"[)\]}>\"'`:;, ]+")
_REPETITION = re.compile(r"(?P<unit>[^\n]{0,40}?\w[^\n]{0,40}?|[^\n]*\w[^\n]*\n)(?P=unit){3,}")
_BOUNDARY = re.compile(r"\w+(?=[^\w.:\\/(\[<@-])|[)\]}\"'`]|[;:](?=\s|\Z)")
_WORD_END = re.compile(r"\w+|[)\]}\"'`]")
_UNFINISHED = re.compile(
    r"(?:and|as|assert|async|await|case|catch|class|const|def|del|elif|else|except|extends|fn|for"
    r"|from|func|function|global|goto|if|implements|import|in|instanceof|interface|is|lambda|let"
    r"|match|mut|new|nonlocal|not|of|or|private|protected|pub|public|raise|return|static|struct"
    r"|switch|throw|throws|try|type|typeof|until|use|using|var|when|where|while|with|yield)"
)
"""Words that cannot end a line."""

_Proposal = tuple[str, int]
"""The text to insert, and how many characters of the rest of the line it replaces."""


@dataclass(frozen=True, slots=True)
class _InsertionPoint:
    """The cursor and its surroundings. `rest` is the text after it on its line."""

    context: Context
    before: Scan
    after: str
    rest: str

    @property
    def single_line(self) -> bool:
        return bool(self.rest) or self.context.gap in (GapKind.STRING, GapKind.COMMENT)


def trim(draft: Draft, context: Context) -> Completion | None:
    """The part of `draft` that can be inserted at the cursor of `context`, or None."""
    point = _insertion_point(context)
    text, finished = draft.text, draft.finished
    for _ in range(MAX_REPAIRS):
        text = _clean_and_align(text, point)
        end = _end_of_gap(text, point)
        finished = finished or end is not None
        proposals = (
            _complete_proposals(text, end, point) if finished else _partial_proposals(text, point)
        )
        elsewhere = _other_lines(point) if finished else ""
        chosen = _fewest_errors(
            islice(_balanced_proposals(proposals, point), MAX_PARSES), point, elsewhere
        )
        if chosen is None:
            return None
        if not finished or chosen[0] in (text, _clean(text[:end], point)):
            inserted = (context.pending + chosen[0]).replace("\n", context.newline)
            return Completion(
                text=inserted,
                replaces=chosen[1],
                confidence=_confidence(draft, chosen[0]),
                finished=finished,
            )
        text = chosen[0]  # repaired: check the result like a new draft
    return None


def is_final(draft: Draft, context: Context) -> bool:
    """Whether the completion ends within `draft`, so that more text cannot change `trim`."""
    if "\n" not in draft.text:
        return False
    point = _insertion_point(context)
    return _end_of_gap(_clean_and_align(draft.text, point), point) is not None


def useful_prefix(
    draft: Draft, context: Context, worth: Callable[[int], float]
) -> Completion | None:
    """The most valuable prefix of `draft` that ends with a word and is valid on its own.

    `worth` maps a length in characters to a value. None if no prefix has a positive value.
    """
    point = _insertion_point(context)
    text = _clean_and_align(draft.text, point)
    last = len(text) if draft.finished else len(text) - 1  # the last word may be incomplete
    words = (word for word in _WORD_END.finditer(text) if not _UNFINISHED.fullmatch(word[0]))
    ends = [word.end() for word in words if word.end() <= last]
    ranked = sorted(((worth(end), end) for end in ends), reverse=True)
    best = (
        (text[:end], 0)
        for value, end in ranked
        if value > 0 and not any(_overlaps(text[:end], point))
    )
    chosen = _fewest_errors(islice(_balanced_proposals(best, point), MAX_PARSES), point, "")
    if chosen is None or not draft.text.startswith(chosen[0]):
        return None
    inserted = (context.pending + chosen[0]).replace("\n", context.newline)
    return Completion(inserted, 0, prefix_chance(draft, len(chosen[0])), finished=False)


def _confidence(draft: Draft, text: str) -> float:
    """The confidence of `text`: of that prefix of the draft, or of as many of its lines."""
    if draft.text.startswith(text):
        return complete_chance(draft, len(text))
    lines = draft.text.split("\n")[: text.count("\n") + 1]
    return complete_chance(draft, len("\n".join(lines)))


def _insertion_point(context: Context) -> _InsertionPoint:
    after = context.after or context.suffix
    before = scan_prefix(context.language, context.before or context.prefix)
    return _InsertionPoint(context, before, after, after.partition("\n")[0].rstrip())


def _clean_and_align(text: str, point: _InsertionPoint) -> str:
    text = text[:MAX_DRAFT_CHARS].replace("\r\n", "\n")
    bad = _CONTROL.search(text)
    return align(text[: bad.start()] if bad else text, point.context, point.before)


def _end_of_gap(text: str, point: _InsertionPoint) -> int | None:
    """The offset in `text` where the completion should end, or None if not known yet."""
    if point.single_line:
        end = text.find("\n")
        return end if end >= 0 else None
    part, before = scan_after(point.before, text), point.before
    if point.context.gap is not GapKind.BLOCK:
        return next((offset for offset, at in part.line_ends if at <= before.line_depth), None)
    if before.stack and before.stack[-1].character == "{":
        return next((offset for offset, at in part.line_ends if at < len(before.stack)), None)
    return block_end(part, before)


def _complete_proposals(text: str, end: int | None, point: _InsertionPoint) -> Iterator[_Proposal]:
    """Proposals for inserting a complete draft, best first."""
    gap = text[:end]
    if point.rest:
        yield from _mid_line_proposals(gap, point)
    elif point.single_line:
        yield gap, 0
    else:
        if (
            end is not None
            and not point.before.lexis.indented
            and point.context.gap is GapKind.BLOCK
        ):
            last = _LAST_LINE.match(text, end)
            if last:
                yield _without_duplicate_lines(text[: last.end()], point), 0
        gap = _without_duplicate_lines(gap, point)
        yield gap, 0
    part = scan_after(point.before, gap)
    if re.fullmatch(r".*[\w)\]}\"'`]\s*", gap):
        yield gap.rstrip() + missing_closers(part), 0
    if point.before.quote >= 0 and part.tokens[0].close:
        yield gap[: part.tokens[0].end - part.tokens[0].close], 0
    yield gap[: part.outer_close], 0


def _mid_line_proposals(text: str, point: _InsertionPoint) -> Iterator[_Proposal]:
    """Proposals for the middle of a line. The rest of the line must not be duplicated."""
    rest = point.rest.strip()
    if text.rstrip().endswith(rest):
        yield text.rstrip().removesuffix(rest), 0
    yield text, 0
    if _ADDED.fullmatch(rest) and _is_subsequence(point.rest, text):
        yield text, len(point.rest)


def _partial_proposals(text: str, point: _InsertionPoint) -> Iterator[_Proposal]:
    """Proposals for an unfinished draft, cut at its last whole line or one of its last words."""
    yield from ((text[:n], 0) for n in islice(_overlaps(text, point), 1))
    if point.context.gap in (GapKind.STRING, GapKind.COMMENT):
        yield text[: max(text.rfind(" "), 0)], 0
        return
    part, depth = scan_after(point.before, text), len(point.before.stack)
    for end in reversed([offset for offset, at in part.line_ends if at <= depth]):
        if text[:end].strip():
            yield _without_duplicate_lines(text[:end], point), 0
            return
    if part.line_ends:
        yield close_blocks(point.before, text[: part.line_ends[-1][0]].rstrip()), 0
    words = [found for found in _BOUNDARY.finditer(text) if not _UNFINISHED.fullmatch(found[0])]
    for found in words[: -MAX_CUTS - 1 : -1]:
        yield text[: found.end()], 0


def _overlaps(text: str, point: _InsertionPoint) -> Iterator[int]:
    """Offsets where a tail of `text` is a prefix of the rest of the line, in ascending order."""
    return (n for n in range(1, len(text)) if point.rest and point.rest.startswith(text[n:]))


def _without_duplicate_lines(text: str, point: _InsertionPoint) -> str:
    """`text` cut where it begins to repeat the lines that follow in the document."""
    line, following = point.before.line, point.after.partition("\n")[2]
    below = [other.rstrip() for other in following.split("\n") if other.strip()]
    lines = (line + text).split("\n")
    for number, first in enumerate(lines):
        if not below or first.rstrip() != below[0]:
            continue
        if not re.search(r"\w", first) and not following.startswith(first.rstrip()):
            continue  # a lone bracket below may close something else
        drafted = [own.rstrip() for own in lines[number:] if own.strip()]
        existing = below[: len(drafted)]
        cut_short = len(drafted) == len(existing) > 1 and existing[-1].startswith(drafted[-1])
        if drafted == existing or (cut_short and drafted[:-1] == existing[:-1]):
            return "\n".join(lines[:number])[len(line) :]
    return text


def _balanced_proposals(
    proposals: Iterable[_Proposal], point: _InsertionPoint
) -> Iterator[_Proposal]:
    """The useful proposals that leave no more brackets unmatched than inserting nothing."""
    before = point.before
    mark = before.lexis.quotes[before.quote].close if before.quote >= 0 else ""
    without = [balance(before, text, point.after) for text in {"", mark}]
    tried = set()
    for proposed, replaces in proposals:
        text = _clean(proposed, point)
        if (text, replaces) in tried or not _adds_something(text, point):
            continue
        tried.add((text, replaces))
        unmatched = balance(before, text, point.after[replaces:])
        if any(unmatched.is_no_worse_than(other) for other in without):
            yield text, replaces


def _clean(text: str, point: _InsertionPoint) -> str:
    text = _TRAILING.sub("", text) if "\n" in text else text
    joins = point.rest and point.rest[0] not in " \t)]},;:"
    return text if joins else text.rstrip()


def _adds_something(text: str, point: _InsertionPoint) -> bool:
    """Whether `text` is neither empty, nor repetitive, nor a copy of its neighbours."""
    if not text.strip() or point.after.startswith(text):
        return False
    repetition = _REPETITION.search(text, max(0, len(text) - REPETITION_CHARS))
    if repetition and len(repetition[0]) >= max(MIN_REPETITION_CHARS, len(text) // 2):
        return False
    line = point.before.line
    above = point.before.text.removesuffix(line).rstrip().rpartition("\n")[2]
    return bool(point.rest) or (line + text).rstrip() != above


def _other_lines(point: _InsertionPoint) -> str:
    before = point.before
    return before.text.removesuffix(before.line) + point.after.partition("\n")[2]


def _fewest_errors(
    proposals: Iterable[_Proposal], point: _InsertionPoint, elsewhere: str
) -> _Proposal | None:
    """The first proposal without syntax errors, or else the one with the fewest.

    A proposal may have no more errors than the document without it. If the document itself has
    errors, those of `elsewhere` are allowed on top, since the grammar may not know the dialect.
    """
    language, before, after = point.context.language, point.before, point.after
    best: tuple[int, _Proposal] | None = None
    inside_quote = None
    for text, replaces in proposals:
        if before.quote >= 0 and scan_after(before, text).quote == before.quote:
            inside_quote = text, replaces  # text inside a string has no syntax to check
            break
        errors = syntax.errors(language, before.text + text + after[replaces:]) or 0
        if not errors:
            return text, replaces
        if best is None or errors < best[0]:
            best = errors, (text, replaces)
    if best is None:
        return inside_quote
    baseline = syntax.errors(language, before.text + after) or 0
    if baseline:
        baseline += syntax.errors(language, elsewhere) or 0
    return best[1] if best[0] <= baseline else inside_quote


def _is_subsequence(small: str, large: str) -> bool:
    characters = iter(large)
    return all(character in characters for character in small)
