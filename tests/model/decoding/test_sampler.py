import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.decoding.sampler import Sampler, kl_divergence
from mercury_model.runtime.protocol import Predictions

END, FORBIDDEN = 0, (8, 9)


def predictions(*rows: dict[int, float]) -> Predictions:
    ids = np.array([list(row) for row in rows])
    probs = np.array([list(row.values()) for row in rows], np.float32)
    return Predictions(ids, probs, np.arange(len(rows), dtype=np.float32))


def chooser(rank: int = 0, temperature: float = 0.0, seed: int = 0) -> Sampler:
    return Sampler(FORBIDDEN, END, 5_000, rank, temperature, seed)


ROW = {9: 0.4, 5: 0.3, 8: 0.1, 6: 0.08, 7: 0.02}


def test_the_likeliest_token_that_may_be_written_is_chosen() -> None:
    choices = chooser().choose(predictions(ROW, {6: 0.9, 9: 0.05, 5: 0.0, 7: 0.0, 8: 0.0}), 0)
    assert choices.ids.tolist() == [5, 6]
    assert choices.confidence == pytest.approx([0.3, 0.9])
    assert choices.entropy.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("rank", "expected"), [(0, 5), (1, 6), (2, 7), (3, 7), (99, 7)])
def test_a_rank_passes_over_the_likelier_tokens_of_the_first_position(
    rank: int, expected: int
) -> None:
    assert chooser(rank).choose(predictions(ROW, ROW), 0).ids.tolist() == [expected, 5]
    assert chooser(rank).choose(predictions(ROW, ROW), 1).ids.tolist() == [5, 5]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prediction_of_marks_alone_ends_the_text(temperature: float) -> None:
    choices = chooser(2, temperature).choose(predictions({8: 0.6, 9: 0.4}), 0)
    assert (choices.ids.tolist(), choices.confidence.tolist()) == ([END], [0.0])


def test_no_rows_are_no_choices() -> None:
    empty = Predictions(
        np.zeros((0, 4), np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    )
    assert chooser().choose(empty, 0).ids.tolist() == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_choices_are_samples_from_the_sharpened_candidates(temperature: float) -> None:
    rows = predictions(*[ROW] * 5_000)
    chosen = chooser(temperature=temperature, seed=3).choose(rows, 0).ids
    allowed = {token: chance for token, chance in ROW.items() if token not in FORBIDDEN}
    weights = np.array(list(allowed.values())) ** (1 / temperature)
    shares = [(chosen == token).mean() for token in allowed]
    assert shares == pytest.approx(weights / weights.sum(), abs=0.03)


@given(st.integers(0, 2**32), st.integers(0, 100))
def test_a_choice_depends_on_the_position_and_not_on_when_it_is_asked(seed: int, at: int) -> None:
    at_once = chooser(temperature=1.0, seed=seed).choose(predictions(*[ROW] * 8), at).ids
    one = chooser(temperature=1.0, seed=seed)
    backwards = [one.choose(predictions(ROW), at + j).ids[0] for j in reversed(range(8))]
    assert at_once.tolist() == backwards[::-1]


def dense(*weights: float) -> Predictions:
    """A prediction over the tokens 0, 1, … with all of them as candidates."""
    probs = np.array(weights, np.float32) / sum(weights)
    order = np.argsort(-probs, kind="stable")
    return Predictions(order[None], probs[order][None], np.zeros(1, np.float32))


weights = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


@given(weights, weights)
def test_kl_divergence_is_that_from_the_prediction_before(
    now: list[float], before: list[float]
) -> None:
    p, q = np.array(now) / sum(now), np.array(before) / sum(before)
    expected = float((p * np.log(p / q)).sum())
    assert kl_divergence(dense(*now), dense(*before))[0] == pytest.approx(expected, abs=1e-4)


def test_equal_predictions_have_no_divergence_and_new_rows_an_infinite_one() -> None:
    now = predictions({5: 0.6, 6: 0.3}, {6: 0.9, 5: 0.05}, {7: 0.5, 6: 0.5})
    before = predictions({5: 0.6, 6: 0.3}, {5: 0.9, 6: 0.05})
    stayed, changed, new = kl_divergence(now, before)
    assert stayed == pytest.approx(0, abs=1e-6)
    assert changed > 2
    assert np.isinf(new)


def test_a_candidate_that_was_none_counts_as_the_least_of_those_that_were() -> None:
    now, before = predictions({5: 0.5, 6: 0.3}), predictions({5: 0.5, 7: 0.1})
    expected = 0.3 * np.log(3) + 0.2 * np.log(0.2 / 0.4)
    assert kl_divergence(now, before)[0] == pytest.approx(expected, abs=1e-6)
