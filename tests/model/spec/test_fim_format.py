from dataclasses import replace

import pytest
from fakes import FORMAT, LetterTokenizer
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.spec.fim_format import FimContext, FimFormat, FimOrder, fim_context

CODEC = LetterTokenizer()
ENCODE = CODEC.encode
ORDERS: tuple[FimOrder, ...] = ("suffix-prefix", "psm", "spm")
LETTERS = st.text("abc\n ()", max_size=30)
SUFFIX, PREFIX, MIDDLE, FILE, REPO = 1, 2, 3, 40, 41
KNOWING = replace(FORMAT, file_id=FILE, file_tokens=40)


def context(layout: FimFormat, prefix: str, suffix: str) -> FimContext:
    return fim_context(layout, CODEC, prefix, suffix)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("suffix-prefix", [SUFFIX, *ENCODE("de"), PREFIX, *ENCODE("abc"), MIDDLE]),
        ("psm", [PREFIX, *ENCODE("abc"), SUFFIX, *ENCODE("de"), MIDDLE]),
        ("spm", [PREFIX, SUFFIX, *ENCODE("de"), MIDDLE, *ENCODE("abc")]),
    ],
)
def test_each_order_lays_out_the_parts_as_published(order: FimOrder, expected: list[int]) -> None:
    assert context(replace(FORMAT, order=order), "abc", "de") == FimContext(tuple(expected))


@pytest.mark.parametrize("order", ORDERS)
@given(prefix=LETTERS, suffix=LETTERS)
def test_healing_takes_the_last_token_back_and_owes_its_bytes(
    order: FimOrder, prefix: str, suffix: str
) -> None:
    layout = replace(FORMAT, order=order, heal=True)
    healed = context(layout, prefix, suffix)
    shorter = context(replace(layout, heal=False), prefix[:-1], suffix)
    assert healed.ids == shorter.ids
    assert healed.owed.decode() == prefix[-1:]


@given(LETTERS, LETTERS, LETTERS)
def test_with_the_suffix_first_typing_only_adds_to_the_end(
    prefix: str, typed: str, suffix: str
) -> None:
    layout = replace(FORMAT, order="spm", heal=True)
    before = context(layout, prefix, suffix).ids
    assert context(layout, prefix + typed, suffix).ids[: len(before)] == before


def test_the_window_of_a_long_prefix_moves_in_strides_in_every_order() -> None:
    lines = "".join(f"{'abc' * (n % 5)}(d)\n" for n in range(60))
    for order in ORDERS:
        layout = replace(FORMAT, order=order)
        begun = {
            context(layout, lines + "a" * count, "").ids[: 2 if order != "spm" else 4]
            for count in range(layout.prefix_tokens // 8)
        }
        assert len(begun) == 1
        assert len(context(layout, lines, "").ids) <= layout.prefix_tokens + 3


def test_other_files_come_before_the_gap_each_behind_its_path() -> None:
    found = fim_context(KNOWING, CODEC, "a", "b", [("c", "d"), ("e", "f")]).ids
    files = [FILE, *ENCODE("c\nd"), FILE, *ENCODE("e\nf")]
    assert found == (*files, SUFFIX, *ENCODE("b"), PREFIX, *ENCODE("a"), MIDDLE)


def test_a_repository_comes_before_its_files_and_the_gap_has_a_file_mark_of_its_own() -> None:
    layout = replace(KNOWING, repo_id=REPO, order="spm")
    found = fim_context(layout, CODEC, "a", "b", [("c", "d")], "abba").ids
    files = [REPO, *ENCODE("abba\n"), FILE, *ENCODE("c\nd"), FILE]
    assert found == (*files, PREFIX, SUFFIX, *ENCODE("b"), MIDDLE, *ENCODE("a"))
    assert fim_context(layout, CODEC, "a", "b", [], "abba") == context(layout, "a", "b")


@given(st.lists(st.tuples(LETTERS, LETTERS), max_size=4), st.integers(0, 60), LETTERS)
def test_other_files_keep_to_their_limit(
    others: list[tuple[str, str]], limit: int, repository: str
) -> None:
    for repo_id in (-1, REPO):
        layout = replace(KNOWING, file_tokens=limit, repo_id=repo_id)
        found = fim_context(layout, CODEC, "a", "b", others, repository).ids
        assert len(found) - len(context(layout, "a", "b").ids) <= limit


def test_the_quick_window_is_the_same_layout_with_less_text_and_no_other_files() -> None:
    layout = replace(KNOWING, order="spm", quick_prefix_tokens=4, quick_suffix_tokens=2)
    quick = layout.quick
    assert quick is not None
    found = fim_context(quick, CODEC, "abcdefgh", "hgfe", [("c", "d")])
    assert found.ids == (PREFIX, SUFFIX, *ENCODE("hg"), MIDDLE, *ENCODE("efgh"))
    assert KNOWING.quick is None


def test_marks_are_what_neither_spells_text_nor_ends_a_middle() -> None:
    layout = replace(FORMAT, file_id=FILE, repo_id=REPO, stop_ids=(FILE, SUFFIX, 7))
    assert set(layout.marks) == {PREFIX, MIDDLE, FORMAT.mask_id, REPO}
    assert layout.end_ids == {FORMAT.eos_id, FILE, SUFFIX, 7}


def test_only_text_and_ends_are_predicted_where_the_format_says_which_ids_are_text() -> None:
    assert FORMAT.predicted_ids() == ()
    layout = replace(FORMAT, text_ids=10, eos_id=10, stop_ids=(12,))
    assert layout.predicted_ids() == (*range(10), 10, 12)
