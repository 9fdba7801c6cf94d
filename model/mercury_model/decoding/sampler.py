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
    """One token for each of R rows.

    `ids` [R], their probabilities `confidence` [R], and the `entropy` [R] of the predictions.
    """

    ids: NDArray[np.int64]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]


class Sampler:
    """Chooses tokens for the positions of one gap of at most `limit` tokens.

    `forbidden` ids are never chosen. The first new token is the candidate of rank `rank`, 0 being
    the best.

    With a temperature, the candidates of every position have Gumbel noise, drawn once from the seed
    by position and rank. The choice is a sample from the tempered candidates; later steps at the
    same position reuse the noise. Equal predictions give equal choices, so verified decoding equals
    autoregressive sampling with the same seed.
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

        Position `ranked` takes the candidate of rank `rank`, or the last one if there are fewer. A
        row whose candidates are all forbidden ends the middle, with confidence 0.
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
    """The Kullback-Leibler divergence of each row of `now` from that of `before`, in nats.

    It is infinite for rows that `before` lacks. All tokens but the candidates of `now` count as
    one. A token that was no candidate before gets the lowest probability of the candidates then.
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
