"""Probabilities of prefixes and lines."""

import pytest

from mercury_lsp.core import chance
from mercury_lsp.core.types import Draft


@pytest.mark.parametrize(
    ("text", "chances", "expected"),
    [
        ("a", ((1, 0.1),), 0.1),
        ("a\nb", ((2, 0.5), (3, 0.1)), 0.5),
        ("a\nb\n", ((1, 0.5), (2, 0.4), (3, 0.2), (4, 0.1)), 0.4),
        ("\n    a", ((5, 1.0), (6, 0.1)), 0.1),
        ("\n    a\n", ((5, 1.0), (6, 0.6), (7, 0.5)), 0.5),
        ("", (), 0.1),
    ],
)
def test_the_first_non_empty_line_counts(
    text: str, chances: tuple[tuple[int, float], ...], expected: float
) -> None:
    assert chance.first_line_chance(Draft(text, 0.1, finished=True, chances=chances)) == expected


def test_an_unfinished_line_is_less_likely_than_its_prefix() -> None:
    begun, ended = (Draft("f(", 0.5, finished) for finished in (False, True))
    assert 0 < chance.first_line_chance(begun) < chance.first_line_chance(ended) == 0.5
    assert chance.first_line_chance(Draft("", 1.0, finished=False)) == 1


def test_a_line_with_one_token_is_less_likely_than_one_with_two() -> None:
    one, two = (
        Draft("f(", 0.5, False, chances=chances) for chances in (((2, 0.5),), ((1, 0.6), (2, 0.5)))
    )
    assert 0 < chance.first_line_chance(one) < chance.first_line_chance(two)


def test_a_cut_draft_is_right_only_if_its_line_ends_there() -> None:
    draft = Draft("ab\nc", 0.1, finished=True, chances=((1, 0.9), (2, 0.8), (3, 0.6), (4, 0.2)))
    assert [chance.complete_chance(draft, length) for length in (1, 2, 4)] == [0.9, 0.6, 0.1]


@pytest.mark.parametrize(
    ("confidence", "characters", "distraction", "saved"),
    [(1.0, 9, 5, 8), (0.0, 9, 5, -5), (0.5, 9, 0, 4), (0.5, 9, 8, 0), (0.9, 1, 0, 0)],
)
def test_a_right_suggestion_saves_keys_and_a_wrong_one_costs_some(
    confidence: float, characters: int, distraction: float, saved: float
) -> None:
    assert chance.expected_keys_saved(confidence, characters, distraction) == pytest.approx(saved)
