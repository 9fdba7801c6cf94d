"""Draft tokens with their probabilities, which a causal pass verifies.

They come from denoising, from the caller's prediction, or from the lookup in other text (`lookup`).
Knows ids, no network and no text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PREDICTION_ACCEPTANCE = (0.44, 0.74, 0.90)
"""How often each token of a prediction is right if those before it are; the last number holds for
all further tokens. Measured on mini's drafts of the key before, on 900 keys of held-out Python."""


@dataclass(frozen=True, slots=True)
class DraftTokens:
    """Ids in order; `chances` [len(ids)] that each is right if those before it are."""

    ids: list[int] = field(default_factory=list)
    chances: NDArray[np.floating] = field(default_factory=lambda: np.empty(0))

    def expected(self) -> float:
        """The expected number of right tokens before the first wrong one."""
        return float(np.cumprod(self.chances, dtype=np.float64).sum())

    def all_right(self) -> float:
        """The probability that all are right, taken as independent; 1 if there are none."""
        return float(np.prod(self.chances, dtype=np.float64))

    def first(self, most: int) -> "DraftTokens":
        """The first `most` of them, or fewer."""
        return DraftTokens(self.ids[:most], self.chances[:most])

    def likely(self, chance: float) -> "DraftTokens":
        """The leading tokens that are all right with at least this probability."""
        joint = np.cumprod(self.chances, dtype=np.float64)
        return self.first(int(np.searchsorted(-joint, -chance, side="right")))


def remaining_prediction(predicted: Sequence[int], middle: Sequence[int], most: int) -> DraftTokens:
    """Up to `most` tokens of the prediction after `middle`; none if it does not begin with it."""
    done = len(middle)
    rest = list(predicted[done : done + most]) if list(predicted[:done]) == list(middle) else []
    places = range(done, done + len(rest))
    return DraftTokens(
        rest,
        np.array([PREDICTION_ACCEPTANCE[min(i, len(PREDICTION_ACCEPTANCE) - 1)] for i in places]),
    )
