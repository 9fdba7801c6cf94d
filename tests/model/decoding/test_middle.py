"""Where a text ends, and how likely it was to end there."""

from collections.abc import Sequence

import pytest

from mercury_model.decoding.middle import Middle, StopCriteria
from mercury_model.decoding.output import FinishReason

END, MASK = 0, 1
PIECES = ("", "", "ab", ")", "\n", ")\n", "c")


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[token] for token in ids)


@pytest.mark.parametrize(
    ("tokens", "text", "reason", "ending"),
    [
        (("ab", END), "ab", "end", 0.25),
        ((END,), "", "end", 0.5),
        (("ab", "\n", "c"), "ab", "stop", 0.25),
        (("ab", ")\n", "c"), "ab)", "stop", 1.0),
        (("ab", ")\n"), "ab)", "stop", 1.0),
        (("ab", "c", "c", "c"), "abccc", "length", 1.0),
        (("ab", "c"), "abc", None, 1.0),
    ],
)
def test_a_text_is_as_likely_to_end_as_the_token_that_ends_it(
    tokens: Sequence[str | int], text: str, reason: FinishReason | None, ending: float
) -> None:
    middle = Middle(StopCriteria(frozenset({END}), MASK, 4, ("\n",), decode))
    for place, token in enumerate(tokens, 1):
        middle.add(token if isinstance(token, int) else PIECES.index(token), 0.5**place)
    draft = middle.draft(0, 0)
    assert (draft.text, draft.reason, draft.ending) == (text, reason, ending)
