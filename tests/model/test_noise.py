from collections.abc import Callable
from functools import partial
from itertools import product
from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mercury_model.noise import (
    SCHEDULES,
    Clipped,
    Cosine,
    Linear,
    LogLinear,
    Schedule,
    corrupt,
    loss,
    times,
)

ALL: list[Schedule] = [
    *SCHEDULES.values(),
    Clipped(Linear(), 0.2, 0.7),
    Clipped(Cosine(), 0.1, 1.0),
]
COMPLETE: list[Schedule] = [Linear(), Cosine()]
MASK = 3
LENGTH = 3


@pytest.fixture(scope="module")
def joint() -> NDArray[np.float64]:
    """A joint distribution over three tokens out of three, with every dependence there can be."""
    return np.random.default_rng(5).dirichlet(np.full(27, 0.5)).reshape(3, 3, 3)


def exact_log_probs(
    joint: NDArray[np.float64], ids: NDArray[np.int64], masked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """log p(x_i | the clear tokens) for every position, by summing the joint."""
    clear = joint[
        tuple(slice(None) if m else slice(i, i + 1) for i, m in zip(ids, masked, strict=True))
    ]
    result = np.zeros(LENGTH)
    for position in range(LENGTH):
        others = tuple(axis for axis in range(LENGTH) if axis != position)
        marginal = clear.sum(axis=others)
        result[position] = log(marginal[ids[position] if masked[position] else 0] / marginal.sum())
    return result


def bound_by_integration(
    schedule: Schedule,
    ids: NDArray[np.int64],
    log_probs: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
) -> float:
    """L(x): every mask enumerated, time integrated by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = (nodes + 1) / 2
    total = 0.0
    for pattern in product([False, True], repeat=LENGTH):
        masked = np.array(pattern)
        count = int(masked.sum())
        if count:
            rate = schedule.mask_rate(t)
            chance = rate**count * (1 - rate) ** (LENGTH - count)
            cost = loss(log_probs(masked), masked, schedule.gamma(t))
            total += float((weights / 2 * chance * cost).sum())
    return total


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_the_mask_rate_rises_with_time_and_stays_a_probability(schedule: Schedule) -> None:
    rate = schedule.mask_rate(np.linspace(0, 1, 101))
    assert (np.diff(rate) > 0).all()
    assert (rate >= 0).all()
    assert (rate <= 1).all()


@pytest.mark.parametrize("schedule", COMPLETE, ids=repr)
def test_everything_is_clear_at_the_start_and_masked_at_the_end(schedule: Schedule) -> None:
    assert schedule.mask_rate(0.0) == pytest.approx(0.0, abs=1e-12)
    assert schedule.mask_rate(1.0) == pytest.approx(1.0)


def test_log_linear_stops_short_of_masking_everything() -> None:
    assert LogLinear(0.01).mask_rate(1.0) == pytest.approx(0.99)


def test_a_clipped_schedule_keeps_to_its_rates() -> None:
    rates = Clipped(Cosine(), 0.25, 0.75).mask_rate([0.0, 1.0])
    assert rates == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_gamma_is_the_relative_growth_of_the_mask_rate(schedule: Schedule) -> None:
    t, step = np.linspace(0.05, 0.95, 19), 1e-6
    slope = (schedule.mask_rate(t + step) - schedule.mask_rate(t - step)) / (2 * step)
    assert schedule.gamma(t) == pytest.approx(slope / schedule.mask_rate(t), rel=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_time_inverts_the_mask_rate(schedule: Schedule) -> None:
    t = np.linspace(0, 1, 21)
    assert schedule.time(schedule.mask_rate(t)) == pytest.approx(t, abs=1e-9)


@pytest.mark.parametrize("schedule", COMPLETE, ids=repr)
def test_a_model_that_knows_the_conditionals_attains_the_exact_likelihood(
    schedule: Schedule, joint: NDArray[np.float64]
) -> None:
    for x in product(range(3), repeat=LENGTH):
        ids = np.array(x)
        bound = bound_by_integration(schedule, ids, partial(exact_log_probs, joint, ids))
        assert bound == pytest.approx(-log(joint[x]), rel=1e-9)


def test_log_linear_lacks_only_the_share_of_the_bound_above_its_last_mask_rate(
    joint: NDArray[np.float64],
) -> None:
    ids = np.array([0, 1, 2])
    log_probs = partial(exact_log_probs, joint, ids)
    short = bound_by_integration(LogLinear(0.01), ids, log_probs)
    rest = bound_by_integration(Clipped(Linear(), 0.99, 1.0), ids, log_probs)
    assert short < -log(joint[0, 1, 2])
    assert short + rest == pytest.approx(-log(joint[0, 1, 2]), rel=1e-9)


def test_a_wrong_model_pays_the_same_above_the_likelihood_on_every_schedule(
    joint: NDArray[np.float64],
) -> None:
    other = np.random.default_rng(6).dirichlet(np.ones(27)).reshape(3, 3, 3)
    inputs = [np.array(x) for x in product(range(3), repeat=LENGTH)]
    bounds = [
        [
            bound_by_integration(schedule, ids, partial(exact_log_probs, other, ids))
            for ids in inputs
        ]
        for schedule in COMPLETE
    ]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)
    truth = np.array([joint[tuple(ids)] for ids in inputs])
    assert truth @ np.array(bounds[0]) > -(truth * np.log(truth)).sum()


@pytest.mark.parametrize("schedule", COMPLETE, ids=repr)
def test_sampled_losses_average_to_the_exact_likelihood(
    schedule: Schedule, joint: NDArray[np.float64]
) -> None:
    rng, count = np.random.default_rng(7), 20_000
    x = np.array([2, 0, 1])
    t = times(count, rng)
    ids, masked = corrupt(np.tile(x, (count, 1)), schedule.mask_rate(t), MASK, rng)
    patterns, which = np.unique(masked, axis=0, return_inverse=True)
    log_probs = np.stack([exact_log_probs(joint, x, pattern) for pattern in patterns])[which]
    samples = loss(log_probs, masked, schedule.gamma(t))
    assert samples.mean() == pytest.approx(-log(joint[2, 0, 1]), abs=4 * samples.std() / count**0.5)
    assert ((ids == MASK) == masked).all()


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(0, 40))
def test_corruption_masks_or_keeps_and_never_invents(seed: int, rate: float, length: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, MASK, length)
    noisy, masked = corrupt(ids, rate, MASK, rng)
    assert (noisy[masked] == MASK).all()
    assert (noisy[~masked] == ids[~masked]).all()


def test_each_token_is_masked_independently_at_the_given_rate() -> None:
    rng = np.random.default_rng(8)
    _, masked = corrupt(np.zeros((4_000, 5), np.int64), np.full(4_000, 0.3), MASK, rng)
    counts = np.bincount(masked.sum(axis=1), minlength=6) / 4_000
    expected = [comb(5, k) * 0.3**k * 0.7 ** (5 - k) for k in range(6)]
    assert counts == pytest.approx(expected, abs=0.03)


def test_the_same_seed_corrupts_alike() -> None:
    ids = np.arange(50) % 3
    first, second = (corrupt(ids, 0.5, MASK, np.random.default_rng(1))[0] for _ in range(2))
    assert (first == second).all()


@given(st.integers(1, 100), st.integers(0, 2**32))
def test_times_fill_the_unit_interval_evenly(count: int, seed: int) -> None:
    t = np.sort(times(count, np.random.default_rng(seed)))
    assert (t > 0).all()
    assert (t <= 1).all()
    assert (np.ceil(t * count - 1e-9).astype(int) == np.arange(1, count + 1)).all()
