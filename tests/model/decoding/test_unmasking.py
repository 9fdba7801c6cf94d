from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mercury_model.decoding.unmasking import (
    BlockView,
    EntropyBound,
    Klass,
    Policy,
    Remask,
    Scheduled,
    Threshold,
    TopK,
    dial,
)
from mercury_model.noise import Cosine, Linear

PROBABILITY = st.floats(0, 1, width=32)
POLICIES: list[Policy] = [
    Threshold(0.9),
    Threshold(np.inf),
    EntropyBound(0.5),
    Klass(0.5),
    TopK(3),
    Scheduled(4, Linear()),
    Scheduled(4, Cosine()),
    dial(0.0),
    dial(0.5),
    dial(1.0),
]


ROW = st.tuples(
    st.booleans(),
    PROBABILITY,
    st.floats(0, 11, width=32),
    st.sampled_from([0.0, 0.005, 0.01, 3.0, np.inf]),
    PROBABILITY,
)


@st.composite
def views(draw: st.DrawFn) -> BlockView:
    opened, *numbers = zip(*draw(st.lists(ROW, min_size=1, max_size=40)), strict=True)
    return BlockView(np.array(opened), *(np.array(values, np.float32) for values in numbers))


def view(*confidence: float) -> BlockView:
    """All positions open, none seen before."""
    values = np.array(confidence, np.float32)
    return uniform(len(values), confidence=values, entropy=1 - values)


def uniform(size: int, **given: NDArray[Any]) -> BlockView:
    """All open and sure, none seen before."""
    ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
    usual = {
        "open": np.ones(size, np.bool_),
        "confidence": ones,
        "entropy": zeros,
        "kl_divergence": np.full(size, np.inf, np.float32),
        "committed": zeros,
    }
    return BlockView(**(usual | given))


def positions(policy: Policy, view: BlockView) -> list[int]:
    return np.flatnonzero(policy(view)).tolist()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(view=views())
def test_only_open_positions_commit_and_the_leftmost_always(
    policy: Policy, view: BlockView
) -> None:
    chosen = policy(view)
    assert not (chosen & ~view.open).any()
    if view.open.any():
        assert chosen[np.flatnonzero(view.open)[0]]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(view=views())
def test_every_masked_position_commits_exactly_once(policy: Policy, view: BlockView) -> None:
    commits = np.zeros(view.open.size, int)
    still_open = view.open.copy()
    while still_open.any():
        chosen = policy(replace(view, open=still_open))
        commits += chosen
        still_open = still_open & ~chosen
    assert (commits == view.open).all()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_committed_block_commits_nothing(policy: Policy) -> None:
    committed = uniform(5, open=np.zeros(5, np.bool_))
    assert positions(policy, committed) == []


@given(views(), PROBABILITY, PROBABILITY)
def test_a_higher_dial_commits_a_superset(view: BlockView, one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert not (dial(low)(view) & ~dial(high)(view)).any()


@given(views(), st.floats(0, 50), st.floats(0, 50))
def test_a_larger_entropy_bound_commits_a_superset(
    view: BlockView, one: float, other: float
) -> None:
    low, high = sorted([one, other])
    assert not (EntropyBound(low)(view) & ~EntropyBound(high)(view)).any()


@given(views(), st.integers(1, 40), st.integers(1, 40))
def test_a_larger_count_commits_a_superset(view: BlockView, one: int, other: int) -> None:
    low, high = sorted([one, other])
    assert not (TopK(low)(view) & ~TopK(high)(view)).any()


@given(views())
def test_the_dial_at_zero_commits_one_token_and_at_one_everything(view: BlockView) -> None:
    assert dial(0.0)(view).sum() == min(1, view.open.sum())
    assert (dial(1.0)(view) == view.open).all()


def test_certainty_does_not_pass_a_dial_at_zero() -> None:
    assert positions(dial(0.0), view(1.0, 1.0, 1.0)) == [0]


@pytest.mark.parametrize("outside", [-0.01, 1.01, np.nan])
def test_a_dial_outside_its_range_is_refused(outside: float) -> None:
    with pytest.raises(ValueError, match="quality_speed_tradeoff"):
        dial(outside)


def test_the_default_dial_asks_for_nine_tenths() -> None:
    assert positions(dial(0.5), view(0.1, 0.91, 0.89)) == [0, 1]


def test_a_threshold_commits_confident_positions() -> None:
    assert positions(Threshold(0.8), view(0.2, 0.9, 0.7, 0.8)) == [0, 1, 3]


def test_an_entropy_bound_leaves_out_the_largest_entropy_of_the_set() -> None:
    entropies = np.array([0.5, 0.25, 3.0, 0.0], np.float32)
    seen = uniform(4, entropy=entropies)
    assert positions(EntropyBound(0.0), seen) == [0, 3]
    assert positions(EntropyBound(0.25), seen) == [0, 1, 3]
    assert positions(EntropyBound(0.74), seen) == [0, 1, 3]
    assert positions(EntropyBound(0.75), seen) == [0, 1, 2, 3]


def test_the_leftmost_position_counts_among_the_top() -> None:
    assert positions(TopK(2), view(0.1, 0.2, 0.9, 0.9)) == [0, 2]


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        (Scheduled(4, Linear()), [3, 3, 3, 3]),
        (Scheduled(5, Linear()), [3, 3, 3, 3]),
        (Scheduled(4, Cosine()), [1, 3, 5, 3]),
        (Scheduled(12, Linear()), [1] * 12),
        (Scheduled(1, Cosine()), [12]),
    ],
    ids=repr,
)
def test_a_scheduled_block_is_committed_within_its_steps(
    policy: Scheduled, sizes: list[int]
) -> None:
    still_open = np.ones(12, np.bool_)
    seen = []
    while still_open.any():
        chosen = policy(uniform(12, open=still_open))
        seen.append(int(chosen.sum()))
        still_open &= ~chosen
    assert seen == sizes


def test_klass_commits_confident_positions_that_no_longer_change() -> None:
    confidence = np.array([0.2, 0.9, 0.9, 0.4], np.float32)
    divergence = np.array([0.0, 0.001, 0.5, 0.0], np.float32)
    seen = uniform(4, confidence=confidence, kl_divergence=divergence)
    assert positions(Klass(0.5, nats=0.01), seen) == [0, 1]
    assert positions(Klass(0.5, nats=np.inf), seen) == [0, 1, 2]


def test_klass_commits_one_token_where_nothing_was_predicted_before() -> None:
    assert positions(Klass(0.0), view(1.0, 1.0, 1.0)) == [0]


@given(views(), PROBABILITY)
def test_only_weak_tokens_right_of_an_open_position_are_masked_again(
    view: BlockView, confidence: float
) -> None:
    again = Remask(confidence)(view)
    assert not (again & view.open).any()
    assert (view.committed[again] < confidence).all()
    for position in np.flatnonzero(again):
        assert view.open[:position].any()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(views(), PROBABILITY, st.randoms(use_true_random=False))
def test_with_remasking_a_block_ends_after_as_many_steps_as_it_has_positions(
    policy: Policy, view: BlockView, confidence: float, chance: Random
) -> None:
    size, steps, done = view.open.size, 0, 0
    seen = replace(view, open=np.ones(size, np.bool_))
    while seen.open.any():
        committed, again = policy(seen), Remask(confidence)(seen)
        opened = (seen.open & ~committed) | again
        leftmost = int(np.argmax(opened)) if opened.any() else size
        assert leftmost > done or steps == 0
        done, steps = leftmost, steps + 1
        sure = np.array([chance.random() for _ in range(size)], np.float32)
        seen = replace(seen, open=opened, confidence=sure, committed=seen.confidence)
    assert steps <= size
