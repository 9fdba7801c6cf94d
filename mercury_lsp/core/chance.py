"""How likely a part of a draft is to be right, and what showing it is worth. Numbers alone."""

from mercury_lsp.core.types import Draft

TO_COME = 1.7
"""The chance of a line that has begun falls to about this power of itself until the line ends."""

BARELY_BEGUN = 2.4
"""The same of a line of which there is but a token. In held-out Python as it is typed, 1,034 lines
began with a token that the model gave less than a quarter: eight would have been shown, two of them
right."""


def of_first(draft: Draft, length: int) -> float:
    """The chance that the first `length` characters are right: that of the tokens that hold them.

    Of characters that the draft does not have, nothing is known but the chance of all it has.
    """
    if length == 0:
        return 1.0
    return next((chance for end, chance in draft.chances if end >= length), draft.confidence)


def of_whole(draft: Draft, length: int) -> float:
    """The chance that the first `length` characters are right, and end there."""
    if length >= len(draft.text):
        return draft.confidence
    return of_first(draft, length + draft.text.startswith("\n", length))


def of_first_line(draft: Draft) -> float:
    """The chance that a draft's first line that is not empty will be right to its end.

    Until that line ends, what is still to come counts by TO_COME, or BARELY_BEGUN.
    """
    empty = len(draft.text) - len(draft.text.lstrip("\n"))
    end = draft.text.find("\n", empty)
    if end >= 0:
        return of_whole(draft, end)
    if draft.finished:
        return draft.confidence
    power = BARELY_BEGUN if len(draft.chances) == 1 else TO_COME
    return float(draft.confidence**power)


def saved(chance: float, characters: int, distraction: float) -> float:
    """How many keys a suggestion of so many characters saves on average.

    If it is right, all but the key that accepts it; if it is wrong it costs `distraction` keys.
    """
    return chance * (characters - 1) - (1 - chance) * distraction
