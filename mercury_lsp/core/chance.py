"""The probability that part of a draft is right, and the keys that showing it should save."""

from mercury_lsp.core.types import Draft

UNFINISHED_LINE_POWER = 1.7
"""Exponent for an unfinished line: p ** UNFINISHED_LINE_POWER estimates the finished line."""

ONE_TOKEN_POWER = 2.4
"""The exponent if the line has only one token yet. In held-out Python, typed key by key, 1,034
lines began with a token of probability below 0.25. Eight of them would have been shown, and two of
those eight were right."""


def prefix_chance(draft: Draft, length: int) -> float:
    """The probability that the first `length` characters are right.

    It is that of the tokens that cover them, or of the whole draft if `length` is beyond its end.
    """
    if length == 0:
        return 1.0
    return next((chance for end, chance in draft.chances if end >= length), draft.confidence)


def complete_chance(draft: Draft, length: int) -> float:
    """The probability that the first `length` characters are right and the text ends there."""
    if length >= len(draft.text):
        return draft.confidence
    return prefix_chance(draft, length + draft.text.startswith("\n", length))


def first_line_chance(draft: Draft) -> float:
    """The probability that the first non-empty line of a draft is right to its end.

    For an unfinished line it is estimated with `UNFINISHED_LINE_POWER` or `ONE_TOKEN_POWER`.
    """
    empty = len(draft.text) - len(draft.text.lstrip("\n"))
    end = draft.text.find("\n", empty)
    if end >= 0:
        return complete_chance(draft, end)
    if draft.finished:
        return draft.confidence
    power = ONE_TOKEN_POWER if len(draft.chances) == 1 else UNFINISHED_LINE_POWER
    return float(draft.confidence**power)


def expected_keys_saved(chance: float, characters: int, distraction: float) -> float:
    """The expected number of keys that a suggestion of `characters` characters saves.

    A right suggestion saves all its keys but the one that accepts it. A wrong one costs
    `distraction` keys.
    """
    return chance * (characters - 1) - (1 - chance) * distraction
