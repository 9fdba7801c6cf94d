import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.guesses import CHANCES, PREDICTED, Guesses, left_of, looked_up

texts = st.lists(st.integers(0, 3), max_size=40)


def test_what_followed_the_last_time_is_guessed() -> None:
    assert looked_up([5, 6, 7, 8, 9, 5, 6], 3).ids == [7, 8, 9]


def test_the_longest_match_counts() -> None:
    found = looked_up([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3], 1)
    assert found.ids == [7]
    assert found.chances == pytest.approx([CHANCES[2]])


def test_of_matches_as_long_the_latest_counts() -> None:
    assert looked_up([1, 2, 7, 0, 1, 2, 8, 9, 1, 2], 1).ids == [8]


def test_a_guess_is_likelier_the_more_guesses_before_it_are_right() -> None:
    found = looked_up([*range(20), 0], 9)
    assert found.chances.tolist() == [*CHANCES, *[CHANCES[-1]] * 3]


@pytest.mark.parametrize("ids", [[], [1], [1, 2, 3]])
def test_nothing_is_guessed_when_nothing_comes_again(ids: list[int]) -> None:
    found = looked_up(ids, 5)
    assert (found.ids, len(found.chances)) == ([], 0)


@given(texts, st.integers(1, 9))
def test_no_earlier_place_matches_longer_and_no_later_one_as_long(
    ids: list[int], most: int
) -> None:
    def matching(place: int) -> int:
        lengths = range(1, min(len(CHANCES), place) + 1)
        return max((n for n in lengths if ids[place - n : place] == ids[-n:]), default=0)

    best = max(range(1, len(ids)), key=lambda place: (matching(place), place), default=0)
    expected = ids[best : best + most] if best and matching(best) else []
    assert looked_up(ids, most).ids == expected


@given(texts, st.integers(0, 9))
def test_guesses_are_a_copy_of_what_stands_behind_a_match(ids: list[int], most: int) -> None:
    found = looked_up(ids, most)
    assert len(found.ids) == len(found.chances) <= most
    if found.ids:
        copied = [ids[-1], *found.ids]
        assert any(ids[at : at + len(copied)] == copied for at in range(len(ids)))


@given(texts, texts, st.integers(0, 9))
def test_of_a_prediction_what_is_left_is_guessed_while_it_is_right(
    predicted: list[int], middle: list[int], most: int
) -> None:
    assert left_of([*middle, *predicted], middle, most).ids == predicted[:most]
    assert left_of([*middle, 7, *predicted], [*middle, 8], most).ids == []


def test_a_prediction_is_surer_the_longer_it_was_right() -> None:
    assert left_of([1, 2, 3, 4, 5], [1], 9).chances == pytest.approx(
        [*PREDICTED[1:], *PREDICTED[-1:] * 2]
    )


chances = st.lists(st.floats(0, 1), max_size=8).map(np.array)


@given(chances, st.floats(0.01, 1))
def test_guesses_are_cut_where_they_stop_being_likely(values: np.ndarray, chance: float) -> None:
    guesses = Guesses(list(range(len(values))), values)
    likely = guesses.likely(chance)
    assert likely.ids == guesses.ids[: len(likely.ids)]
    assert not likely.ids or likely.all_right() >= chance
    if len(likely.ids) < len(values):
        assert guesses.first(len(likely.ids) + 1).all_right() < chance


def test_the_expected_run_counts_leading_guesses_alone() -> None:
    assert Guesses([1, 2, 3], np.array([0.5, 0.5, 0.0])).expected() == pytest.approx(0.75)
    assert Guesses().expected() == 0
