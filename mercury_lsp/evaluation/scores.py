"""What is made of completions: pure functions of text and numbers."""

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
    """Whether a completion is what was there, blanks at its end aside."""
    return text.rstrip() == truth.rstrip()


def similarity(text: str, truth: str) -> float:
    """Matching characters of both, in [0, 1]: 2·M / (len(text) + len(truth))."""
    return SequenceMatcher(None, text, truth, autojunk=False).ratio()


def parses(before: str, text: str, between: str) -> bool:
    """Whether Python code with the completion in its place is syntactically whole."""
    try:
        ast.parse(before + text + between)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds that hold 95 % of its resampled values."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of `values` with its bootstrap interval. Pair first: pass differences."""
    if not values:
        return Interval(0.0, 0.0, 0.0)
    draw = random.Random(seed)
    count = len(values)
    means = sorted(sum(draw.choices(values, k=count)) / count for _ in range(RESAMPLES))
    return Interval(
        round(sum(values) / count, 4),
        round(means[int(0.025 * RESAMPLES)], 4),
        round(means[int(0.975 * RESAMPLES) - 1], 4),
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """Completions whose confidence lies in a tenth of the scale."""

    count: int
    confidence: float
    right: float


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> list[Bin]:
    """What share of the completions of each confidence is right (DeGroot & Fienberg 1983)."""
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
    """Expected calibration error: the mean gap between confidence and truth, by count."""
    total = sum(b.count for b in bins)
    return round(sum(b.count * abs(b.confidence - b.right) for b in bins) / max(1, total), 4)


def precision_at(share: float, confidences: Sequence[float], right: Sequence[bool]) -> float:
    """How many of the surest `share` of completions are right."""
    ranked = sorted(zip(confidences, right, strict=True), key=lambda pair: -pair[0])
    shown = ranked[: max(1, round(share * len(ranked)))]
    return round(sum(r for _, r in shown) / max(1, len(shown)), 4)


@dataclass(frozen=True, slots=True)
class Silence:
    """Of all completions the share `shown` whose confidence is at least `least`; of those the share
    `right`; and of all that are right the share `kept`."""

    least: float
    shown: float
    right: float
    kept: float


def silence(least: float, confidences: Sequence[float], right: Sequence[bool]) -> Silence:
    """What comes of showing nothing that is less certain than `least`."""
    shown = [r for c, r in zip(confidences, right, strict=True) if c >= least]
    return Silence(
        least,
        round(len(shown) / max(1, len(right)), 4),
        round(sum(shown) / max(1, len(shown)), 4),
        round(sum(shown) / max(1, sum(right)), 4),
    )


def group_by(values: Sequence[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Values by what `key` says of them, in the order of their first."""
    groups: dict[K, list[V]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups
