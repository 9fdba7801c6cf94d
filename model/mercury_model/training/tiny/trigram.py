"""The yardstick: an interpolated Kneser-Ney trigram over the same tokens (Chen & Goodman 1998)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Level:
    """Discounted counts of n-grams (as sorted keys) and, for each history, what smoothing needs."""

    keys: Ids
    counts: Ids
    histories: Ids
    totals: Ids
    kinds: Ids
    discount: float

    @classmethod
    def of(cls, keys: Ids, vocabulary: int) -> "Level":
        """From the keys of n-grams as they occur; a key is `history * vocabulary + word`."""
        unique, counts = np.unique(keys, return_counts=True)
        histories, first, kinds = np.unique(
            unique // vocabulary, return_index=True, return_counts=True
        )
        totals = np.add.reduceat(counts, first)
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        return cls(unique, counts, histories, totals, kinds, float(once / (once + 2 * twice)))

    def smooth(
        self, histories: Ids, words: Ids, vocabulary: int, lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """max(c − D, 0) / total + D · kinds / total · `lower`; `lower` for an unseen history."""
        count = _find(self.keys, self.counts, histories * vocabulary + words)
        total = _find(self.histories, self.totals, histories)
        kinds = _find(self.histories, self.kinds, histories)
        seen = total > 0
        total = np.maximum(total, 1)
        discounted = np.maximum(count - self.discount, 0) / total
        return np.where(seen, discounted + self.discount * kinds / total * lower, lower)


class Trigram:
    """p(w | u v) over `vocabulary` ids. Sequences are taken to follow two of `start`."""

    def __init__(self, sequences: Sequence[Sequence[int]], vocabulary: int, start: int) -> None:
        self._vocabulary, self._start = vocabulary, start
        u, v, w = (
            np.concatenate(parts) for parts in zip(*map(self._grams, sequences), strict=True)
        )
        self._third = Level.of((u * vocabulary + v) * vocabulary + w, vocabulary)
        # Lower orders count in how many contexts an n-gram occurs, not how often.
        pairs = self._third.keys % vocabulary**2
        self._second = Level.of(pairs, vocabulary)
        words, counts = np.unique(self._second.keys % vocabulary, return_counts=True)
        chances = np.zeros(vocabulary)
        chances[words] = counts / counts.sum()
        # A little for words that never occurred.
        self._first = 0.999 * chances + 0.001 / vocabulary

    def log_probs(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """Natural logarithms, one for each of `ids`."""
        u, v, w = self._grams(ids)
        lower = self._second.smooth(v, w, self._vocabulary, self._first[w])
        return np.log(self._third.smooth(u * self._vocabulary + v, w, self._vocabulary, lower))

    def _grams(self, ids: Sequence[int]) -> tuple[Ids, Ids, Ids]:
        padded = np.array([self._start, self._start, *ids], np.int64)
        return padded[:-2], padded[1:-1], padded[2:]


def _find(keys: Ids, values: Ids, wanted: Ids) -> Ids:
    """The value of each wanted key, 0 where there is none."""
    at = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[at] == wanted, values[at], 0)
