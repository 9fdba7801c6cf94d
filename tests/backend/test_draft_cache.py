"""What is left of a draft while it is being typed."""

from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.backend.draft_cache import MAX_ENTRIES, DraftCache

texts = st.text("ab\n", max_size=12)


@given(texts, texts, texts)
def test_typing_a_beginning_of_a_draft_leaves_its_rest(before: str, typed: str, rest: str) -> None:
    draft_cache = DraftCache()
    draft_cache.put(before, typed + rest)
    assert draft_cache.rest(before + typed) == rest


@given(texts, st.lists(st.tuples(texts, texts), max_size=6))
def test_what_is_left_was_drafted_behind_a_beginning(
    prefix: str, drafts: list[tuple[str, str]]
) -> None:
    draft_cache = DraftCache()
    for before, text in drafts:
        draft_cache.put(before, text)
    rest = draft_cache.rest(prefix)
    assert not rest or any(before + text == prefix + rest for before, text in drafts)


def test_the_latest_draft_counts() -> None:
    draft_cache = DraftCache()
    draft_cache.put("x = ", "foo(1)")
    draft_cache.put("x = f", "ind(2)")
    assert draft_cache.rest("x = f") == "ind(2)"
    assert draft_cache.rest("x = fo") == "o(1)"


def test_only_the_last_drafts_are_kept() -> None:
    draft_cache = DraftCache()
    for number in range(MAX_ENTRIES + 1):
        draft_cache.put(f"{number}", "text")
    assert draft_cache.rest("0") == ""
    assert draft_cache.rest("1") == "text"
