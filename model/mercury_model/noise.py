"""The forward process: how clear text turns into masks, and the loss that follows from it.

Absorbing state: every token is masked by time t with the same chance, on its own, and stays so.
Knows no network, no device and no text.

With α(t) the chance that a token is still clear, the negative likelihood of x is bounded by

    L(x) = −E_t[γ(t) · E_{z_t ~ q(z_t|x)} Σ_{i masked in z_t} log p_θ(x_i | z_t)],
    γ(t) = −α′(t) / (1 − α(t)),   t uniform in (0, 1],

(Sahoo et al. 2024, arXiv:2406.07524; Shi et al. 2024, arXiv:2406.04329). Substituting the mask rate
1 − α for t shows that the bound does not depend on the schedule, as long as α falls from 1 to 0;
the variance of its estimate does. A model that knows the true conditionals attains −log p(x).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]


class Schedule(Protocol):
    """How the mask rate 1 − α(t) rises with t in [0, 1]; every method is elementwise."""

    def mask_rate(self, t: ArrayLike) -> Array:
        """1 − α(t): the chance that a token is masked at time t."""

    def gamma(self, t: ArrayLike) -> Array:
        """γ(t): the weight of the loss at time t in (0, 1]."""

    def time(self, mask_rate: ArrayLike) -> Array:
        """The time at which the mask rate is reached: the inverse of `mask_rate`."""


@dataclass(frozen=True, slots=True)
class Linear:
    """α(t) = 1 − t, γ(t) = 1 / t."""

    def mask_rate(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return np.asarray(t, np.float64)

    def gamma(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return 1.0 / np.asarray(t, np.float64)

    def time(self, mask_rate: ArrayLike) -> Array:
        """See `Schedule`."""
        return np.asarray(mask_rate, np.float64)


@dataclass(frozen=True, slots=True)
class Cosine:
    """α(t) = 1 − cos(π/2 · (1 − t)): few masks are left for long, then many at once (MaskGIT)."""

    def mask_rate(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return np.sin(math.pi / 2 * np.asarray(t, np.float64))

    def gamma(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return math.pi / 2 / np.tan(math.pi / 2 * np.asarray(t, np.float64))

    def time(self, mask_rate: ArrayLike) -> Array:
        """See `Schedule`."""
        return 2 / math.pi * np.arcsin(np.asarray(mask_rate, np.float64))


@dataclass(frozen=True, slots=True)
class LogLinear:
    """α(t) = 1 − (1 − ε)t, that is σ(t) = −log α(t) as in SEDD and MDLM, finite at t = 1."""

    epsilon: float = 1e-3

    def mask_rate(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return (1.0 - self.epsilon) * np.asarray(t, np.float64)

    def gamma(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return 1.0 / np.asarray(t, np.float64)

    def time(self, mask_rate: ArrayLike) -> Array:
        """See `Schedule`."""
        return np.asarray(mask_rate, np.float64) / (1.0 - self.epsilon)


@dataclass(frozen=True, slots=True)
class Clipped:
    """The part of another schedule where the mask rate lies between `low` and `high`.

    Block diffusion trains on it (Arriola et al. 2025, arXiv:2503.09573): a block of B tokens shows
    nothing below a rate of 1 / B. Its loss is the share of the bound between these rates.
    """

    base: Schedule
    low: float = 0.0
    high: float = 1.0

    def mask_rate(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        return self.base.mask_rate(self._base_time(t))

    def gamma(self, t: ArrayLike) -> Array:
        """See `Schedule`."""
        _, span = self._window()
        return span * self.base.gamma(self._base_time(t))

    def time(self, mask_rate: ArrayLike) -> Array:
        """See `Schedule`."""
        start, span = self._window()
        return (self.base.time(mask_rate) - start) / span

    def _base_time(self, t: ArrayLike) -> Array:
        start, span = self._window()
        return start + span * np.asarray(t, np.float64)

    def _window(self) -> tuple[float, float]:
        start, end = float(self.base.time(self.low)), float(self.base.time(self.high))
        return start, end - start


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {"linear": Linear(), "cosine": Cosine(), "log-linear": LogLinear()}
)
"""Schedules by the names that configurations use."""


def times(count: int, rng: np.random.Generator) -> Array:
    """`count` times in (0, 1], one in each of as many equal strata: uniform, of low variance."""
    return 1.0 - (np.arange(count) + rng.random(count)) / count


def corrupt(
    ids: NDArray[np.int64],
    mask_rate: ArrayLike,
    mask_id: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw z_t ~ q(z_t | x): the noisy ids, and which of them are masked.

    `ids` [..., T]; `mask_rate`, which is `schedule.mask_rate(t)`, broadcasts against [...].
    """
    rate = np.asarray(mask_rate, np.float64)[..., None]
    masked = rng.random(ids.shape) < rate
    return np.where(masked, mask_id, ids), masked


def loss(
    log_probs: ArrayLike, masked: NDArray[np.bool_], gamma: ArrayLike
) -> Array:  # [..., T] -> [...]
    """One sample of L(x) for each sequence, in nats.

    `log_probs` [..., T] is log p_θ(x_i | z_t), `gamma` [...] is `schedule.gamma(t)`. Positions that
    are clear cost nothing. The mean over times and corruptions estimates the bound.
    """
    costs: Array = np.where(masked, -np.asarray(log_probs, np.float64), 0.0).sum(axis=-1)
    return np.asarray(gamma, np.float64) * costs
