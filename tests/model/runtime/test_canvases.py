"""Canvases: text, masks and text that see each other, whole and renewed in part."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weights import tensors
from runtime_pairs import (
    LLAMA,
    MASK,
    PAIRS,
    agree,
    canvas,
    context,
    ours_and_theirs,
    pair,
    real_ids,
)

from mercury_model.runtime.protocol import CanvasRuntime

ONE_LAYER = replace(LLAMA, num_layers=1)
SHALLOW = pair(ONE_LAYER, tensors(ONE_LAYER))


@ours_and_theirs
@pytest.mark.parametrize(("before", "length"), [(0, 65), (0, 127), (0, 200), (70, 130)])
def test_a_canvas_of_any_length_is_predicted_as_by_the_torch_runtime(
    ours: CanvasRuntime, theirs: CanvasRuntime, before: int, length: int
) -> None:
    mine, its = (context(each, real_ids(before)) for each in (ours, theirs))
    agree(ours.denoise(mine, canvas(length)), theirs.denoise(its, canvas(length)))
    assert mine.length == its.length == before


@ours_and_theirs
def test_a_canvas_that_is_kept_is_predicted_as_one_that_is_not(
    ours: CanvasRuntime, theirs: CanvasRuntime
) -> None:
    for runtime in (ours, theirs):
        kv = runtime.new_kv_cache()
        agree(runtime.renew(kv, canvas(130)), runtime.denoise(runtime.new_kv_cache(), canvas(130)))
        assert kv.length == 130


ROWS = st.tuples(st.integers(0, 149), st.integers(1, 150)).map(
    lambda drawn: slice(drawn[0], min(150, sum(drawn)))
)


@settings(max_examples=20)
@given(ROWS)
def test_what_has_not_changed_is_predicted_as_with_the_whole_canvas(rows: slice) -> None:
    for runtime in PAIRS["llama"]:
        kv = runtime.new_kv_cache()
        whole = runtime.renew(kv, canvas(150))
        again = runtime.renew(kv, canvas(150)[rows], rows.start)
        agree(again, whole.at(rows))
        assert kv.length == 150


@settings(max_examples=20)
@given(ROWS, st.integers(0, 9))
def test_changes_are_seen_at_once_where_one_layer_keeps_nothing_but_its_own(
    rows: slice, seed: int
) -> None:
    """With one layer, keys and values depend on no other row: the dual cache is exact."""
    changed = canvas(150)
    changed[rows] = real_ids(150, seed)[rows]
    for runtime in SHALLOW:
        kv = runtime.new_kv_cache()
        runtime.renew(kv, canvas(150))
        found = runtime.renew(kv, changed[rows], rows.start)
        whole = runtime.renew(runtime.new_kv_cache(), changed)
        agree(found, whole.at(rows))


@settings(max_examples=20)
@given(
    st.sampled_from(["llama", "qwen3", "gated"]),
    st.lists(st.tuples(ROWS, st.integers(0, 9)), min_size=1, max_size=4),
)
def test_however_a_canvas_is_renewed_both_runtimes_predict_alike(
    name: str, renewals: list[tuple[slice, int]]
) -> None:
    both = PAIRS[name]
    mine, its = (runtime.new_kv_cache() for runtime in both)
    ours, theirs = both
    agree(ours.renew(mine, canvas(150)), theirs.renew(its, canvas(150)))
    for rows, seed in renewals:
        ids = [token if token % 3 else MASK for token in real_ids(150, seed)[rows]]
        agree(ours.renew(mine, ids, rows.start), theirs.renew(its, ids, rows.start))


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_a_canvas_grows_at_its_end_and_a_copy_of_it_goes_its_own_way(name: str) -> None:
    for runtime in PAIRS[name]:
        kv = runtime.new_kv_cache()
        before = runtime.renew(kv, canvas(100))
        copy = kv.fork(100)
        runtime.renew(copy, real_ids(60), 70)
        assert (kv.length, copy.length) == (100, 130)
        agree(runtime.renew(kv, canvas(100)[80:], 80), before.at(slice(80, 100)))


def test_rows_that_are_none_too_many_or_outside_of_the_canvas_are_refused() -> None:
    for runtime, most in zip(PAIRS["llama"], (4096, 8192), strict=True):
        kv = runtime.new_kv_cache()
        runtime.renew(kv, canvas(30))
        with pytest.raises(ValueError, match="position 31 is outside of a canvas of 30 tokens"):
            runtime.renew(kv, [7], 31)
        with pytest.raises(ValueError, match="position -1 is outside"):
            runtime.renew(kv, [7], -1)
        for ids in ([], [7] * (most + 1)):
            with pytest.raises(ValueError, match=f"1 to {most} tokens, not {len(ids)}"):
                runtime.renew(kv, ids)
        assert kv.length == 30
