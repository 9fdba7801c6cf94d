"""Scores and statistics of completions: pure functions of text and numbers."""

import ast
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

RESAMPLES = 2_000
BINS = 10


def exact(text: str, truth: str) -> bool:
    """Whether a completion equals the truth, ignoring trailing whitespace."""
    return text.rstrip() == truth.rstrip()


def similarity(text: str, truth: str) -> float:
    """The ratio of matching characters in [0, 1]: 2·M / (len(text) + len(truth))."""
    return SequenceMatcher(None, text, truth, autojunk=False).ratio()


def parses(before: str, text: str, between: str) -> bool:
    """Whether Python code with the completion inserted parses."""
    try:
        ast.parse(before + text + between)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of `values` with its bootstrap interval. For paired data, pass differences."""
    if not values:
        return Interval(0.0, 0.0, 0.0)
    rng = random.Random(seed)
    count = len(values)
    means = sorted(sum(rng.choices(values, k=count)) / count for _ in range(RESAMPLES))
    return Interval(
        round(sum(values) / count, 4),
        round(means[int(0.025 * RESAMPLES)], 4),
        round(means[int(0.975 * RESAMPLES) - 1], 4),
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """One tenth of the confidence scale: the count, mean confidence and share right in it."""

    count: int
    confidence: float
    right: float


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> list[Bin]:
    """The reliability diagram: the share right per confidence bin (DeGroot & Fienberg 1983)."""
    bins = []
    for i in range(BINS):
        inside = [
            (c, r)
            for c, r in zip(confidences, right, strict=True)
            if i <= min(c * BINS, BINS - 0.5) < i + 1
        ]
        count = len(inside)
        bins.append(
            Bin(
                count,
                round(sum(c for c, _ in inside) / max(1, count), 4),
                round(sum(r for _, r in inside) / max(1, count), 4),
            )
        )
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean |confidence - share right|, weighted by count."""
    total = sum(b.count for b in bins)
    return round(sum(b.count * abs(b.confidence - b.right) for b in bins) / max(1, total), 4)


def precision_at(share: float, confidences: Sequence[float], right: Sequence[bool]) -> float:
    """The share of right completions among the `share` with the highest confidence."""
    ranked = sorted(zip(confidences, right, strict=True), key=lambda pair: -pair[0])
    shown = ranked[: max(1, round(share * len(ranked)))]
    return round(sum(r for _, r in shown) / max(1, len(shown)), 4)


@dataclass(frozen=True, slots=True)
class Silence:
    """The effect of a confidence threshold `least`.

    `shown` is the share of completions at or above it, `right` the share of those that are right,
    and `kept` the share of all right completions that are still shown.
    """

    least: float
    shown: float
    right: float
    kept: float


def silence(least: float, confidences: Sequence[float], right: Sequence[bool]) -> Silence:
    """The effect of hiding completions with a confidence below `least`."""
    shown = [r for c, r in zip(confidences, right, strict=True) if c >= least]
    return Silence(
        least=least,
        shown=round(len(shown) / max(1, len(right)), 4),
        right=round(sum(shown) / max(1, len(shown)), 4),
        kept=round(sum(shown) / max(1, sum(right)), 4),
    )


def group_by(values: Sequence[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Group `values` by `key`, in order of first occurrence."""
    groups: dict[K, list[V]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups
