from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

FORMAT = registry.card("mini").infill
TOKENIZER = Tokenizer(registry.BUNDLED / "tokenizer.json", FORMAT)
LINES = st.lists(st.sampled_from(["x = 1", "", "    return y", "def f(a):", "# é \U0001f600"]))


def parts(ids: list[int]) -> tuple[list[int], list[int]]:
    """Suffix and prefix of a context's ids."""
    assert ids[0] == FORMAT.suffix_id
    assert ids[-1] == FORMAT.middle_id
    at = ids.index(FORMAT.prefix_id)
    return ids[1:at], ids[at + 1 : -1]


PRINTED = st.characters(exclude_categories=["C"], max_codepoint=0x3FFFF)


# The vocabulary of the base has no token for most control characters; they are dropped.
@given(st.text(PRINTED | st.sampled_from("\n\t\r")))
def test_text_survives_the_way_there_and_back(text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    assert TOKENIZER.decode(TOKENIZER.encode(clean)) == clean.rstrip("\ufffd")


@pytest.mark.parametrize("text", ["<|endoftext|>", "<file_sep>", "a<|im_end|>b"])
def test_what_looks_like_a_special_token_is_text(text: str) -> None:
    assert min(TOKENIZER.encode(text)) > FORMAT.mask_id
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_character_that_is_not_complete_yet_is_not_shown() -> None:
    ids = TOKENIZER.encode("a\U0001f9d1")
    shown = [TOKENIZER.decode(ids[:count]) for count in range(len(ids) + 1)]
    assert shown[-1] == "a\U0001f9d1"
    assert set(shown[:-1]) == {"", "a"}


@given(LINES, LINES)
def test_a_context_keeps_to_its_limits_and_ends_at_the_cursor(
    before: list[str], after: list[str]
) -> None:
    prefix, suffix = "\n".join(before * 20), "\n".join(after * 20)
    back, front = parts(list(TOKENIZER.fim_context(prefix, suffix).ids))
    assert len(front) <= FORMAT.prefix_tokens
    assert len(back) <= FORMAT.suffix_tokens
    assert prefix.endswith(TOKENIZER.decode(front))
    assert suffix.startswith(TOKENIZER.decode(back))


def test_a_long_prefix_begins_at_a_line_and_most_of_the_room_is_used() -> None:
    prefix = "".join(f"value_{number} = compute({number})\n" for number in range(200))
    _, front = parts(list(TOKENIZER.fim_context(prefix, "").ids))
    text = TOKENIZER.decode(front)
    assert text.startswith("value_")
    assert len(front) > FORMAT.prefix_tokens // 2


def test_typing_leaves_what_was_tokenised_in_place_but_for_a_step_now_and_then() -> None:
    prefix = "".join(f"value_{number} = compute({number})\n" for number in range(60))
    typed = "result = sum(value_1, value_2)\nprint(result, value_3)\n"
    whole, moved = list(TOKENIZER.fim_context(prefix, "\nend\n").ids), 0
    for count in range(1, len(typed) + 1):
        now = list(TOKENIZER.fim_context(prefix + typed[:count], "\nend\n").ids)
        common = next((i for i, (a, b) in enumerate(zip(whole, now, strict=False)) if a != b), 0)
        moved += common < len(whole) - 8
        whole = now
    assert moved <= 2


@pytest.mark.parametrize("text", ["a" * 3_000_000, "a b\n" * 1_000_000, "\n" * 2_000_000])
def test_huge_text_costs_no_more_than_its_window(text: str) -> None:
    back, front = parts(list(TOKENIZER.fim_context(text, text).ids))
    assert 0 < len(front) <= FORMAT.prefix_tokens
    assert 0 < len(back) <= FORMAT.suffix_tokens


def test_other_files_come_first_and_only_where_the_weights_know_them() -> None:
    others = [("a.py", "x = 1\n"), ("b.py", "y = 2\n" * 100)]
    plain = list(TOKENIZER.fim_context("p", "s", others).ids)
    assert plain == list(TOKENIZER.fim_context("p", "s").ids)
    knowing = Tokenizer(
        registry.BUNDLED / "tokenizer.json", replace(FORMAT, file_id=5, file_tokens=50)
    )
    ids = list(knowing.fim_context("p", "s", others).ids)
    assert ids.count(5) == 2
    assert len(ids) - len(plain) == 50
    assert ids[-len(plain) :] == plain
    assert knowing.decode(ids[1:10]).startswith("a.py\nx = 1\n")
