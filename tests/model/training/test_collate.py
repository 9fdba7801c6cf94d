import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_fakes import FORMAT, code, encode, feed

from mercury_model.training.collate import MOST_MASKS, Blocks, Packed, Window, pack, tokens
from mercury_model.training.gaps import draw_span

numbers = st.integers(0, 400)


def sight(packed: Packed) -> torch.Tensor:
    """[clean + masks, clean + masks]: who sees whom, over both streams."""
    clean, masks = len(packed.clean.ids), len(packed.masks.ids)
    seen = torch.zeros(clean + masks, clean + masks, dtype=torch.bool)
    for ranges, first in ((packed.clean.ranges, 0), (packed.masks.ranges, clean)):
        for part in ranges:
            rows = slice(first + part.start, first + part.stop)
            seen[rows, : part.keys] = part.bias == 0
    return seen


@given(numbers)
def test_no_clean_row_sees_what_comes_after_it(number: int) -> None:
    packed = feed().packed(number)
    clean, seen = len(packed.clean.ids), sight(packed)
    assert not seen[:clean, clean:].any()
    assert not seen[:clean, :clean].triu(1).any()
    assert seen.diagonal().all()


@given(numbers)
def test_positions_count_what_a_row_sees(number: int) -> None:
    packed = feed().packed(number)
    clean, seen = len(packed.clean.ids), sight(packed)
    assert torch.equal(packed.clean.positions, seen[:clean].sum(1) - 1)


@given(numbers)
def test_a_row_is_to_predict_the_token_after_it(number: int) -> None:
    packed = feed().packed(number)
    for row, target in zip(packed.clean_rows, packed.clean_targets, strict=True):
        assert packed.clean.ids[row + 1] == target


@given(numbers)
def test_a_mask_sees_nothing_of_what_it_stands_for(number: int) -> None:
    """The last token a block sees is `distance` + 1 places before what its mask predicts."""
    packed = feed().packed(number)
    clean, seen = len(packed.clean.ids), sight(packed)
    for i in range(len(packed.masks.ids)):
        last = packed.clean.positions[seen[clean + i, :clean]].max()
        mask = packed.masks.positions[i]
        assert mask > last
        if packed.distance[i]:
            assert mask - last == packed.distance[i]
        if packed.teacher[i] >= 0:
            row = packed.clean_rows[packed.teacher[i]]
            assert packed.clean.positions[row] == mask
            assert packed.clean.ids[row + 1] == packed.mask_targets[i]


@given(numbers)
def test_masks_of_a_block_see_each_other_and_no_other_block(number: int) -> None:
    packed = feed().packed(number)
    clean = len(packed.clean.ids)
    among = sight(packed)[clean:, clean:]
    assert torch.equal(among, among.T)
    longest = Blocks().longest
    assert int(among.sum(1).max()) <= longest


def test_a_middle_that_is_cut_off_has_no_end() -> None:
    text = code(1)
    span = next(h for s in range(99) if (h := draw_span(text, 1, random.Random(s))))
    cursor = span.cuts[0]
    for limit in (2, 400):
        found = tokens(text, span, Window(60, 20, limit), encode, FORMAT)
        assert found is not None
        branch = found.branches[0]
        assert branch.ended == (cursor.end - cursor.start <= limit)
        assert (branch.ids[-1] == FORMAT.eos_id) == branch.ended


@given(numbers)
def test_a_branch_continues_the_chain_as_its_cursor_was_reached(number: int) -> None:
    draw = random.Random(number)
    text = code(2)
    span = draw_span(text, 4, draw)
    assert span is not None
    found = tokens(text, span, Window(2000, 30, 50), encode, FORMAT)
    assert found is not None
    for branch, cursor in zip(found.branches, span.cuts, strict=True):
        whole = [*found.chain[: branch.after], *branch.ids]
        before = [FORMAT.prefix_id, *encode(text[: cursor.start]), FORMAT.middle_id]
        start = found.code - 1
        assert whole[start : start + len(before)] == before


def test_the_same_number_packs_the_same_rows() -> None:
    one, other = feed().packed(7), feed().packed(7)
    assert torch.equal(one.clean.ids, other.clean.ids)
    assert torch.equal(one.masks.positions, other.masks.positions)
    assert not torch.equal(one.clean.ids[:40], feed().packed(8).clean.ids[:40])


def test_blocks_follow_their_settings() -> None:
    text = code(1)
    span = draw_span(text, 3, random.Random(0))
    assert span is not None
    found = tokens(text, span, Window(200, 30, 50), encode, FORMAT)
    assert found is not None
    only = Blocks(per_branch=1, on_chain=0, shortest=4, longest=4)
    packed = pack(found, only, FORMAT, random.Random(0))
    assert len(packed.masks.ids) == 4 * len(found.branches)


@pytest.mark.parametrize(("shortest", "longest"), [(0, 4), (5, 4), (4, MOST_MASKS + 1)])
def test_blocks_that_cannot_be_told_apart_or_laid_are_refused(shortest: int, longest: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {MOST_MASKS} masks"):
        Blocks(shortest=shortest, longest=longest)
