"""Chooses a token from a prediction: the likeliest, a seeded sample, or the k-th alternative.

Knows no text, no policy and no device.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercury_model.runtime.limits import TOP_K
from mercury_model.runtime.protocol import Predictions


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """One token for each of R rows: `ids` [R], their probabilities `confidence` [R], and the
    `entropy` [R] of the predictions that they were chosen from."""

    ids: NDArray[np.int64]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]


class Sampler:
    """Chooses tokens for the positions of one gap of at most `limit` tokens.

    `forbidden` ids are never chosen; `rank` is how many candidates the first new token passes over.

    With a temperature, every position has Gumbel noise of its own, drawn once from the seed, for
    its candidates by their rank. The choice is a sample from the sharpened candidates, and a later
    step at the same position does not draw again. Equal predictions give equal choices, so verified
    decoding equals autoregressive sampling with the same seed.
    """

    def __init__(
        self,
        forbidden: tuple[int, ...],
        eos_id: int,
        limit: int,
        rank: int = 0,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._rank = rank
        self._forbidden = np.array(forbidden, np.int64)
        self._eos_id = eos_id
        self._temperature = temperature
        shape = (limit + 1, TOP_K)
        self._noise = np.random.default_rng(seed).gumbel(size=shape) if temperature else None

    def choose(
        self, predictions: Predictions, position: int, ranked: int | None = 0
    ) -> SampledTokens:
        """Choose for each row; row j is for position `position` + j of the middle.

        Position `ranked` takes the rank-th best candidate, or the last one if there are fewer. A
        row without a candidate that may be chosen ends the middle, with confidence 0.
        """
        scores = self._scores(predictions, position)
        allowed = np.isfinite(scores).sum(axis=-1)
        rows = np.arange(len(scores))
        ranks = np.where(
            rows + position == ranked, np.clip(self._rank, 0, np.maximum(allowed - 1, 0)), 0
        )
        picked = np.argsort(-scores, axis=-1, kind="stable")[rows, ranks]
        nothing = allowed == 0
        return SampledTokens(
            np.where(nothing, self._eos_id, predictions.ids[rows, picked]),
            np.where(nothing, 0, predictions.probs[rows, picked]).astype(np.float32),
            predictions.entropy,
        )

    def _scores(self, predictions: Predictions, position: int) -> NDArray[np.float64]:
        """The scores to maximise [R, K], minus infinity for candidates that must not be chosen."""
        with np.errstate(divide="ignore"):
            scores = np.log(predictions.probs.astype(np.float64))
        if self._noise is not None:
            rows, candidates = scores.shape
            noise = self._noise[position : position + rows, :candidates]
            scores = scores / self._temperature + noise
        return np.where(np.isin(predictions.ids, self._forbidden), -np.inf, scores)


def kl_divergence(now: Predictions, before: Predictions) -> NDArray[np.float32]:
    """How far each row of `now` is from that of `before`, in nats; infinite where there is none.

    The Kullback-Leibler divergence over the candidates of `now` and, as one, all other tokens. What
    was no candidate before is taken to have been as likely as the least of those that were.
    """
    rows = min(len(now.ids), len(before.ids))
    result = np.full(len(now.ids), np.inf, np.float32)
    least, one = np.finfo(np.float32).tiny, np.float64
    p, known = now.probs[:rows].astype(one), before.probs[:rows].astype(one)
    same = now.ids[:rows, :, None] == before.ids[:rows, None, :]
    q = np.where(same.any(axis=2), (same * known[:, None, :]).sum(axis=2), known[:, -1:])
    q = np.minimum(q, 1) / np.maximum(1, q.sum(axis=1, keepdims=True))
    both = [np.append(x, np.maximum(0, 1 - x.sum(axis=1, keepdims=True)), axis=1) for x in (p, q)]
    p, q = (np.maximum(x, least) for x in both)
    result[:rows] = np.maximum(0, (p * np.log(p / q)).sum(axis=1))
    return result
