import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.evaluation import scores


def test_exactness_ignores_trailing_blanks() -> None:
    assert scores.exact("a + b ", "a + b\n")
    assert not scores.exact(" a + b", "a + b")


@pytest.mark.parametrize(
    ("text", "truth", "value"), [("abcd", "abcd", 1.0), ("", "abcd", 0.0), ("abxx", "abyy", 0.5)]
)
def test_similarity_counts_matching_characters(text: str, truth: str, value: float) -> None:
    assert scores.similarity(text, truth) == value


def test_parses_tells_valid_code_from_invalid_code() -> None:
    assert scores.parses("x = (", "1 + 2", ")\n")
    assert not scores.parses("x = (", "1 +", ")\n")
    assert not scores.parses("x = '", "\0", "'\n")


def test_an_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    draw = random.Random(0)
    values = [float(draw.random() < 0.3) for _ in range(400)]
    wide, narrow = scores.interval(values[:40]), scores.interval(values)
    for found in (wide, narrow):
        assert found.low <= found.mean <= found.high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert scores.interval([]) == scores.Interval(0, 0, 0)
    assert scores.interval([1.0] * 9) == scores.Interval(1, 1, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans())))
def test_every_completion_is_in_one_bin(pairs: list[tuple[float, bool]]) -> None:
    bins = scores.reliability([c for c, _ in pairs], [r for _, r in pairs])
    assert sum(b.count for b in bins) == len(pairs)


def test_a_calibrated_model_has_no_calibration_error() -> None:
    draw = random.Random(1)
    confidences = [draw.random() for _ in range(20_000)]
    honest = [draw.random() < c for c in confidences]
    boastful = [draw.random() < c / 2 for c in confidences]
    assert scores.calibration_error(scores.reliability(confidences, honest)) < 0.02
    assert scores.calibration_error(scores.reliability(confidences, boastful)) > 0.2


def test_precision_ranks_by_confidence() -> None:
    assert (
        scores.precision_at(0.4, [0.9, 0.1, 0.8, 0.2, 0.3], [True, False, False, True, True]) == 0.5
    )


def test_a_higher_threshold_shows_less_of_which_more_is_right() -> None:
    confidences, right = [0.9, 0.1, 0.8, 0.2], [True, False, False, True]
    assert scores.silence(0.0, confidences, right) == scores.Silence(0.0, 1.0, 0.5, 1.0)
    assert scores.silence(0.85, confidences, right) == scores.Silence(0.85, 0.25, 1.0, 0.5)
    assert scores.silence(0.95, confidences, right) == scores.Silence(0.95, 0.0, 0.0, 0.0)
