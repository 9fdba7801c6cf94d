"""What an editor would show for a case."""

import pytest

from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Draft
from mercury_lsp.evaluation.cases import Case
from mercury_lsp.evaluation.offers import Offer, offer
from mercury_model.training.gaps import SpanKind

LIMITS = Limits(1_000, 400)
SURE = Draft("load(path)", 0.8, finished=True, chances=((4, 0.9), (10, 0.8)))
BEGUN = Draft("load(path)", 0.11, finished=True, chances=((4, 0.9), (10, 0.11)))
UNLIKELY = Draft("load(path)", 0.05, finished=True, chances=((4, 0.06), (10, 0.05)))


def offered(draft: Draft, truth: str, distraction: float = 2.5) -> Offer | None:
    case = Case("python", "p", "p.py", SpanKind.REST_OF_LINE, "x = ", truth, "\n")
    return offer(case, [draft], LIMITS, distraction)


@pytest.mark.parametrize(
    ("draft", "truth", "expected"),
    [
        (SURE, "load(path)", Offer("load(path)", right=True)),
        (SURE, "load(path).read()", Offer("load(path)", right=False)),
        (BEGUN, "load(file)", Offer("load", right=True)),
        (BEGUN, "read(file)", Offer("load", right=False)),
        (UNLIKELY, "load(path)", None),
    ],
)
def test_a_whole_line_must_equal_the_truth_and_a_prefix_must_begin_it(
    draft: Draft, truth: str, expected: Offer | None
) -> None:
    assert offered(draft, truth) == expected


def test_a_distracting_suggestion_is_not_shown() -> None:
    assert offered(BEGUN, "load(file)", distraction=100) is None


def test_accepting_costs_a_key_and_a_wrong_suggestion_saves_none() -> None:
    assert Offer("load", right=True).saved == 3
    assert Offer("load", right=False).saved == 0
