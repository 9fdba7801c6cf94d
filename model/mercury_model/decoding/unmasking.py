"""The reverse process: which masked positions to commit next. Pure functions of confidences.

Knows no tokens, no text, no time and no device; deterministic. A policy looks at one block at one
step. Every policy commits open positions only, and always the leftmost of them, so that text grows
from the left and each step makes progress. Tokens committed right of that position may be masked
again: no text has shown them yet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mercury_model.noise import Schedule


@dataclass(frozen=True, slots=True)
class BlockView:
    """What a policy sees of a block of B positions.

    `open` [B] marks the masked positions. At these, `confidence` [B] is the probability of the
    token that would be committed, `entropy` [B] the entropy of the prediction in nats, and
    `kl_divergence` [B] its Kullback-Leibler divergence from the prediction of the step before in
    nats, infinite if there was none. At the other positions, `committed` [B] is the confidence with
    which they were committed.
    """

    open: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    kl_divergence: NDArray[np.float32]
    committed: NDArray[np.float32]


Policy: TypeAlias = Callable[[BlockView], NDArray[np.bool_]]
"""Returns the positions [B] to commit now."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Commit positions of at least this confidence (Fast-dLLM, arXiv:2505.22618)."""

    confidence: float

    def __call__(self, view: BlockView) -> NDArray[np.bool_]:
        """See `Policy`."""
        chosen = view.open & (view.confidence >= self.confidence)
        chosen[_leftmost_first(view, -view.confidence)[:1]] = True
        return chosen


@dataclass(frozen=True, slots=True)
class EntropyBound:
    """Commit the surest positions while the error of sampling them independently stays bounded.

    The joint entropy lost by independent sampling of a set of positions is at most the sum of their
    entropies without the largest (EB-Sampler, arXiv:2505.24857).
    """

    nats: float

    def __call__(self, view: BlockView) -> NDArray[np.bool_]:
        """See `Policy`."""
        order = _leftmost_first(view, view.entropy)
        entropy = view.entropy[order].astype(np.float64)
        lost = np.cumsum(entropy) - np.maximum.accumulate(entropy)
        return _chosen(view, order[lost <= self.nats])


@dataclass(frozen=True, slots=True)
class Klass:
    """Commit confident positions whose prediction no longer changes (KLASS, arXiv:2511.05664).

    A prediction is stable if its KL divergence from the step before is less than `nats`.
    """

    confidence: float
    nats: float = 0.01

    def __call__(self, view: BlockView) -> NDArray[np.bool_]:
        """See `Policy`."""
        chosen = view.open & (view.confidence >= self.confidence) & (view.kl_divergence < self.nats)
        chosen[_leftmost_first(view, -view.confidence)[:1]] = True
        return chosen


@dataclass(frozen=True, slots=True)
class TopK:
    """Commit the `count` surest positions (LLaDA's low-confidence remasking at a fixed rate)."""

    count: int

    def __call__(self, view: BlockView) -> NDArray[np.bool_]:
        """See `Policy`."""
        return _chosen(view, _leftmost_first(view, -view.confidence)[: max(1, self.count)])


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Commit a block within `steps` steps, at the rate of a noise schedule run backwards.

    A linear schedule commits equally many at each step, a cosine few at first and many at the end
    (MaskGIT, arXiv:2202.04200). The time follows from the share of positions that are still open,
    so the policy has no state.
    """

    steps: int
    schedule: Schedule

    def __call__(self, view: BlockView) -> NDArray[np.bool_]:
        """See `Policy`."""
        size, remaining = view.open.size, int(view.open.sum())
        now = float(self.schedule.time(min(remaining / size, float(self.schedule.mask_rate(1.0)))))
        target = size * float(self.schedule.mask_rate(max(0.0, now - 1.0 / self.steps)))
        # 5.9999999 counts as 6. Other targets are rounded down, or a step more would be needed.
        count = remaining - int(round(target, 9))
        return TopK(count)(view)


@dataclass(frozen=True, slots=True)
class Remask:
    """Mask positions committed with less confidence than this again (ReMDM, arXiv:2503.00307).

    Only positions right of the leftmost open one are masked again. That one is committed now, so
    every step commits a position for good, and a block of B ends after at most B steps.
    """

    confidence: float

    def __call__(self, view: BlockView) -> NDArray[np.bool_]:
        """Returns the committed positions [B] to mask again."""
        weak = ~view.open & (view.committed < self.confidence)
        if view.open.any():
            weak[: int(np.argmax(view.open))] = False
            return weak
        return np.zeros_like(view.open)


_EXPONENT = math.log2(10.0)


def dial(quality_speed_tradeoff: float) -> Policy:
    """The default policy at a point between 0 (best: one token a step) and 1 (all at once).

    The policy is a threshold that falls from above 1 to 0, and is 0.9 at the default of 0.5. With
    equal confidences a higher dial commits a superset. Raises ValueError outside [0, 1].
    """
    if not 0.0 <= quality_speed_tradeoff <= 1.0:
        raise ValueError(f"quality_speed_tradeoff must lie in [0, 1], not {quality_speed_tradeoff}")
    if quality_speed_tradeoff == 0.0:
        return Threshold(math.inf)  # a confidence of exactly 1 must not pass either
    return Threshold(1.0 - quality_speed_tradeoff**_EXPONENT)


def _leftmost_first(view: BlockView, cost: NDArray[np.float32]) -> NDArray[np.intp]:
    """The open positions: the leftmost, then the others by cost, ties from the left."""
    positions = np.flatnonzero(view.open)
    rest = positions[1:]
    return np.concatenate([positions[:1], rest[np.argsort(cost[rest], kind="stable")]])


def _chosen(view: BlockView, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
    chosen = np.zeros_like(view.open)
    chosen[positions] = True
    return chosen
