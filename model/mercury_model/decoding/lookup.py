"""A cache language model: predicts the tokens that followed similar text elsewhere.

Code repeats itself, nearby code most of all (Kuhn & De Mori 1990; for code Tu et al. 2014,
Hellendoorn & Devanbu 2017). The network sees a window; this model searches all texts it is given.
It compares characters, so that the cursor may stand inside a word, and predicts from the most
similar places (Khandelwal et al. 2020, arXiv:1911.00172). Knows no network and no policy.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
from numpy.typing import NDArray

from mercury_model.decoding.speculative import DraftTokens
from mercury_model.runtime.protocol import Predictions
from mercury_model.spec.card import CacheTrust

MAX_MATCH_BYTES = 80
"""The most bytes of UTF-8 before a position that are compared."""
MIN_MATCH_BYTES = 3
"""Shorter matches are ignored. After so many equal bytes a character begins."""
MAX_CANDIDATES = 4_096
"""The most places that are compared; the last ones are."""
MAX_MATCHES = 12
"""The most places that give a candidate: the longest matches; ties go to the last."""
DECAY = 0.3
"""The weight of a match is divided by e to this power for each byte it is shorter."""
CONTINUATION_BYTES = 32
"""The bytes after a match that are tokenized to find the first token."""
TOKEN_BYTES = 8
"""Twice the average bytes of a token in code, or more."""
ACCEPTANCE_LOG_ODDS = (-2.06, 1.1)
"""Intercept and slope of the log odds that a looked-up token is right, over the logarithm of the
length of the match. Fitted to mini with lookup on training packages (`model/tools/fit_trust.py`).
"""

_SPACE = re.compile(rb"\s+")


@dataclass(frozen=True, slots=True)
class LookupCandidates:
    """The weight of each candidate token; `length` is that of the longest match, in bytes.

    A run of white space counts as one byte: indentation says little.
    """

    length: int = 0
    tokens: Mapping[int, float] = field(default_factory=dict)

    def shares(self) -> dict[int, float]:
        """The probability of each token."""
        total = sum(self.tokens.values())
        return {token: weight / total for token, weight in self.tokens.items()}

    def among(self, allowed: NDArray[np.bool_] | None) -> "LookupCandidates":
        """The candidates that are `allowed` [V]; None allows all."""
        if allowed is None:
            return self
        tokens = {token: weight for token, weight in self.tokens.items() if allowed[token]}
        return LookupCandidates(self.length, tokens) if tokens else LookupCandidates()


class CacheLM:
    """The cache language model over `texts`, the last of which is nearest to the gap.

    `encode` gives the ids of a text.
    """

    def __init__(self, texts: Sequence[str], encode: Callable[[str], Sequence[int]]) -> None:
        self._text = b"\0".join(text.encode("utf-8", "replace") for text in texts)
        self._bytes = np.frombuffer(self._text, np.uint8)
        self._encode = encode
        self._sought: tuple[str, list[tuple[int, int]]] = "", []

    def candidates(self, before: str, owed: str = "") -> LookupCandidates:
        """The tokens after the longest matches of the end of `before`.

        `owed` is the end of `before` that tokens have yet to spell; candidates begin with it.
        """
        places = self._matches(before)
        tokens: defaultdict[int, float] = defaultdict(float)
        for length, end in places:
            for token in self._following(end, CONTINUATION_BYTES, owed)[:1]:
                tokens[token] += math.exp(DECAY * (length - places[0][0]))
        return LookupCandidates(places[0][0], tokens) if tokens else LookupCandidates()

    def draft(self, before: str, owed: str, most: int) -> DraftTokens:
        """Up to `most` tokens that follow the longest match; ties go to the nearest.

        They begin with `owed`, as in `candidates`. Drafting repeated text is known as prompt lookup
        (Yang et al. 2023, arXiv:2304.04487).
        """
        places = self._matches(before)
        if not places:
            return DraftTokens()
        length, end = places[0]
        ids = self._following(end, most * TOKEN_BYTES, owed)[:most]
        lengths = length + TOKEN_BYTES / 2 * np.arange(len(ids))
        return DraftTokens(
            ids,
            1 / (1 + np.exp(-(ACCEPTANCE_LOG_ODDS[0] + ACCEPTANCE_LOG_ODDS[1] * np.log(lengths)))),
        )

    def _following(self, end: int, size: int, owed: str) -> list[int]:
        """The ids of `owed` and of up to `size` bytes from `end` on, within their text."""
        following = self._text[end : end + size].partition(b"\0")[0]
        return list(self._encode(owed + following.decode("utf-8", "ignore")))

    def _matches(self, before: str) -> list[tuple[int, int]]:
        """The longest matches of the end of `before`, longest and last first, as (length, end).

        Lengths are as in `LookupCandidates`. Matches have at least MIN_MATCH_BYTES bytes, and text
        after them.
        """
        if before != self._sought[0]:
            query = before[-MAX_MATCH_BYTES:].encode("utf-8", "replace")[-MAX_MATCH_BYTES:]
            self._sought = before, self._compared(query)
        return self._sought[1]

    def _compared(self, query: bytes) -> list[tuple[int, int]]:
        text, ends = self._bytes, self._candidates(query)
        lengths = np.full(len(ends), MIN_MATCH_BYTES)
        alike = np.arange(len(ends))
        for length in range(MIN_MATCH_BYTES, len(query)):
            alike = alike[ends[alike] > length]
            alike = alike[text[ends[alike] - 1 - length] == query[-1 - length]]
            if not len(alike):
                break
            lengths[alike] = length + 1
        best = np.lexsort((-ends, -lengths))[:MAX_MATCHES]
        return [
            (len(_SPACE.sub(b" ", query[-length:])), end)
            for length, end in zip(lengths[best].tolist(), ends[best].tolist(), strict=True)
        ]

    def _candidates(self, query: bytes) -> NDArray[np.int64]:
        """The offsets after the last MIN_MATCH_BYTES bytes of `query`, if text follows."""
        text, places = self._bytes, len(self._bytes) - MIN_MATCH_BYTES
        if places <= 0 or len(query) < MIN_MATCH_BYTES:
            return np.empty(0, np.int64)
        found = text[MIN_MATCH_BYTES:] != 0
        for at, byte in enumerate(query[-MIN_MATCH_BYTES:]):
            found &= text[at : at + places] == byte
        return np.flatnonzero(found)[-MAX_CANDIDATES:] + MIN_MATCH_BYTES


def interpolate(
    network: Predictions, lookup: LookupCandidates, trust: CacheTrust, end_ids: Collection[int]
) -> Predictions:
    """The weighted mean of the predictions of `network` at one row [1, K] and of `lookup`.

    The probabilities of `end_ids` are the network's alone.
    """
    if not lookup.tokens:
        return network
    known = dict(zip(network.ids[0].tolist(), network.probs[0].tolist(), strict=True))
    weight = lookup_weight(trust_terms(lookup, max(known.values())), trust)
    goes_on = 1 - sum(known.get(token, 0.0) for token in end_ids)
    chances = {token: p if token in end_ids else (1 - weight) * p for token, p in known.items()}
    for token, share in lookup.shares().items():
        chances[token] = chances.get(token, 0.0) + weight * goes_on * share
    best = sorted(chances.items(), key=lambda item: -item[1])[: len(known)]
    ids, probs = zip(*best, strict=True)
    return Predictions(np.array([ids], np.int64), np.array([probs], np.float32), network.entropy)


def trust_terms(lookup: LookupCandidates, surest: float) -> tuple[float, float, float, float]:
    """The factors of the numbers of a CacheTrust; `surest` is the network's top probability."""
    return 1.0, math.log(lookup.length), max(lookup.shares().values()), surest


def lookup_weight(terms: Sequence[float], trust: CacheTrust) -> float:
    """The weight of the lookup in the mean, a logistic function of the terms."""
    odds = sum(number * term for number, term in zip(astuple(trust), terms, strict=True))
    return 1 / (1 + math.exp(-odds))
