import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.decoding.speculative import (
    PREDICTION_ACCEPTANCE,
    DraftTokens,
    remaining_prediction,
)

texts = st.lists(st.integers(0, 3), max_size=40)


@given(texts, texts, st.integers(0, 9))
def test_the_rest_of_a_prediction_is_drafted_while_its_beginning_is_right(
    predicted: list[int], middle: list[int], most: int
) -> None:
    assert remaining_prediction([*middle, *predicted], middle, most).ids == predicted[:most]
    assert remaining_prediction([*middle, 7, *predicted], [*middle, 8], most).ids == []


def test_a_prediction_is_surer_the_longer_it_was_right() -> None:
    assert remaining_prediction([1, 2, 3, 4, 5], [1], 9).chances == pytest.approx(
        [*PREDICTION_ACCEPTANCE[1:], *PREDICTION_ACCEPTANCE[-1:] * 2]
    )


chances = st.lists(st.floats(0, 1), max_size=8).map(np.array)


@given(chances, st.floats(0.01, 1))
def test_draft_tokens_are_cut_where_they_become_unlikely(values: np.ndarray, chance: float) -> None:
    drafts = DraftTokens(list(range(len(values))), values)
    likely = drafts.likely(chance)
    assert likely.ids == drafts.ids[: len(likely.ids)]
    assert not likely.ids or likely.all_right() >= chance
    if len(likely.ids) < len(values):
        assert drafts.first(len(likely.ids) + 1).all_right() < chance


def test_the_expected_length_counts_leading_tokens_alone() -> None:
    assert DraftTokens([1, 2, 3], np.array([0.5, 0.5, 0.0])).expected() == pytest.approx(0.75)
    assert DraftTokens().expected() == 0
