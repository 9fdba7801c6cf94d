"""What the model reads behind the cursor while an editor closes brackets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.backend.suffix_pin import MAX_ENTRIES, SuffixPin

AFTER = "\n\ndef after():\n    pass\n"
LONG = "".join(f"\nline_{number} = {number}" for number in range(40))

suffixes = st.text("ab)}\n ", max_size=20)


@pytest.mark.parametrize("after", [AFTER, ";" + AFTER, LONG, ""])
@pytest.mark.parametrize("closed", [")", "]", "'", '")', "})]", "\n    }"])
def test_brackets_that_an_editor_closes_are_not_read(closed: str, after: str) -> None:
    pin = SuffixPin()
    assert pin.held(after) == after
    assert pin.held(closed + after) == after
    assert pin.held(after) == after


def test_a_window_that_was_cut_elsewhere_is_the_same() -> None:
    pin = SuffixPin()
    assert pin.held(LONG) == LONG
    assert pin.held(")" + LONG[:-9]) == LONG
    assert pin.held(LONG + "\nmore") == LONG


@pytest.mark.parametrize("new", ["x" + AFTER, "))))" + AFTER, "\nx = 1" + AFTER, AFTER[1:]])
def test_what_else_is_new_is_read(new: str) -> None:
    pin = SuffixPin()
    pin.held(AFTER)
    assert pin.held(new) == new


@given(st.lists(suffixes, max_size=8), suffixes)
def test_what_is_left_out_closes_something_and_was_not_there_before(
    before: list[str], suffix: str
) -> None:
    pin = SuffixPin()
    for earlier in before:
        pin.held(earlier)
    held = pin.held(suffix)
    assert suffix.endswith(held)
    left_out = suffix[: len(suffix) - len(held)]
    assert not left_out or (held in before and set(left_out) <= set(")} \n"))


def test_a_suffix_that_is_read_again_and_again_is_remembered() -> None:
    pin = SuffixPin()
    for number in range(2 * MAX_ENTRIES):
        pin.held(AFTER)
        pin.held(f"{number}")
    assert pin.held(")" + AFTER) == AFTER
