"""Guesses at the tokens to come, each with its chance, for a causal pass to check.

They are drafted by denoising, predicted by whoever asks, or looked up: code repeats itself, so what
followed the same tokens before may follow again (prompt lookup: Yang et al. 2023, arXiv:2304.04487;
Saxena 2023). Knows ids, no network and no text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CHANCES = (0.30, 0.66, 0.67, 0.75, 0.76, 0.89)
"""How often what followed the latest of the longest matches of 1, 2, … tokens follows again, the
last for all longer ones: mini on 160 held-out gaps in Python."""

PREDICTED = (0.44, 0.74, 0.90)
"""How often the tokens of a prediction are right, each if those before it were, the last for all
further ones: what mini drafted a key before, on 900 keys of held-out Python."""


@dataclass(frozen=True, slots=True)
class Guesses:
    """Ids in order; `chances` [len(ids)] that each is right if those before it are."""

    ids: list[int] = field(default_factory=list)
    chances: NDArray[np.floating] = field(default_factory=lambda: np.empty(0))

    def expected(self) -> float:
        """How many leading guesses are right on average, up to the first wrong one."""
        return float(np.cumprod(self.chances, dtype=np.float64).sum())

    def all_right(self) -> float:
        """The chance that none is wrong, taken as independent; 1 if there are none."""
        return float(np.prod(self.chances, dtype=np.float64))

    def first(self, most: int) -> "Guesses":
        """The first `most` of them, or fewer."""
        return Guesses(self.ids[:most], self.chances[:most])

    def likely(self, chance: float) -> "Guesses":
        """The leading guesses that are all right with at least this chance."""
        together = np.cumprod(self.chances, dtype=np.float64)
        return self.first(int(np.searchsorted(-together, -chance, side="right")))


def looked_up(ids: Sequence[int], most: int) -> Guesses:
    """Up to `most` tokens, those behind the longest earlier match of the tokens at the end.

    Of several the latest counts; without any nothing is guessed.
    """
    best = after = 0
    for place in range(len(ids) - 2, -1, -1):
        length = _matching(ids, place)
        if length > best:
            best, after = length, place + 1
        if best == len(CHANCES):
            break
    found = list(ids[after : after + most]) if best else []
    known = [CHANCES[min(best + i, len(CHANCES)) - 1] for i in range(len(found))]
    return Guesses(found, np.array(known))


def left_of(predicted: Sequence[int], middle: Sequence[int], most: int) -> Guesses:
    """Up to `most` tokens of a prediction of which `middle` is a beginning; else none."""
    done = len(middle)
    rest = list(predicted[done : done + most]) if list(predicted[:done]) == list(middle) else []
    places = range(done, done + len(rest))
    return Guesses(rest, np.array([PREDICTED[min(i, len(PREDICTED) - 1)] for i in places]))


def _matching(ids: Sequence[int], place: int) -> int:
    """How many tokens up to `place` are those at the end, as far as CHANCES tells them apart."""
    length = 0
    while length < min(len(CHANCES), place + 1) and ids[place - length] == ids[-1 - length]:
        length += 1
    return length
