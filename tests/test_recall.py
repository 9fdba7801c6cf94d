"""What is left of a draft while it is being typed."""

from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.recall import KEPT, Recall

texts = st.text("ab\n", max_size=12)


@given(texts, texts, texts)
def test_typing_a_beginning_of_a_draft_leaves_its_rest(before: str, typed: str, rest: str) -> None:
    recall = Recall()
    recall.put(before, typed + rest)
    assert recall.rest(before + typed) == rest


@given(texts, st.lists(st.tuples(texts, texts), max_size=6))
def test_what_is_left_was_drafted_behind_a_beginning(
    prefix: str, drafts: list[tuple[str, str]]
) -> None:
    recall = Recall()
    for before, text in drafts:
        recall.put(before, text)
    rest = recall.rest(prefix)
    assert not rest or any(before + text == prefix + rest for before, text in drafts)


def test_the_latest_draft_counts() -> None:
    recall = Recall()
    recall.put("x = ", "foo(1)")
    recall.put("x = f", "ind(2)")
    assert recall.rest("x = f") == "ind(2)"
    assert recall.rest("x = fo") == "o(1)"


def test_only_the_last_drafts_are_kept() -> None:
    recall = Recall()
    for number in range(KEPT + 1):
        recall.put(f"{number}", "text")
    assert recall.rest("0") == ""
    assert recall.rest("1") == "text"
