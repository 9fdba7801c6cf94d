import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.serving.cost_model import CostModel

passes = st.lists(st.tuples(st.integers(1, 256), st.integers(0, 10**9)), min_size=1, max_size=50)


def test_before_the_first_pass_nothing_takes_any_time() -> None:
    assert CostModel().expected_ns(64) == 0


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_what_passes_cost_is_learnt(rows: int) -> None:
    pace = CostModel()
    for seen in [2, 8, 5, 12] * 5:
        pace.observe(seen, 20_000 + 1_500 * seen)
    assert pace.expected_ns(rows) == pytest.approx(20_000 + 1_500 * rows)


def test_passes_that_were_alike_say_nothing_of_a_row_more() -> None:
    pace = CostModel()
    for _ in range(5):
        pace.observe(4, 30_000)
    assert pace.expected_ns(4) == pytest.approx(30_000)
    assert pace.expected_ns(64) == pytest.approx(30_000)


def test_a_machine_that_became_slower_is_noticed() -> None:
    pace = CostModel()
    for cost in [1_000] * 50 + [3_000] * 100:
        pace.observe(4, 4 * cost)
        pace.observe(8, 8 * cost)
    assert pace.expected_ns(4) == pytest.approx(12_000, rel=0.05)


@given(passes, st.integers(1, 256), st.integers(1, 256))
def test_more_rows_are_never_expected_to_take_less_and_nothing_less_than_no_time(
    seen: list[tuple[int, int]], one: int, other: int
) -> None:
    pace = CostModel()
    for rows, ns in seen:
        pace.observe(rows, ns)
    few, many = (pace.expected_ns(rows) for rows in sorted([one, other]))
    assert -1e-3 <= few <= many + 1e-3
