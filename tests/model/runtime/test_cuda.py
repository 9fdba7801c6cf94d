"""The runtime of the kernels over their specification, on a CPU: it must be the torch runtime."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weights import adapted, tensors
from runtime_pairs import LLAMA, MASK, PAIRS, agree, context, ours_and_theirs, pair, real_ids

from mercury_kernels.dispatch import reference_operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.cuda.runtime import FIRST_PAGES, CudaRuntime
from mercury_model.runtime.cuda.weights import load_weights
from mercury_model.runtime.protocol import ForwardCall, Runtime
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

BLOCKS = [
    [MASK],
    [MASK] * 7,
    [9, MASK, MASK, 12, MASK],
    [9, 10, MASK, 12, 13] + [MASK] * 28,
    [11] * 3,
]


@ours_and_theirs
@pytest.mark.parametrize("before", [1, 63, 130])
def test_extending_verifying_and_denoising_are_the_torch_runtime(
    ours: Runtime, theirs: Runtime, before: int
) -> None:
    ids = real_ids(before)
    mine, its = context(ours, ids), context(theirs, ids)
    for block in BLOCKS:
        agree(ours.denoise(mine, block), theirs.denoise(its, block))
    agree(ours.extend(mine, range(20, 25)), theirs.extend(its, range(20, 25)))
    guessed = [7, 8, 9, MASK, MASK]
    agree(ours.verify(mine, guessed), theirs.verify(its, guessed))
    assert mine.length == its.length == before + 8
    agree(ours.verify(mine, ids[:1]), theirs.verify(its, ids[:1]))


@settings(max_examples=25)
@given(st.lists(st.integers(6, 60), min_size=1, max_size=140), st.integers(0, 140), st.data())
def test_truncating_and_forking_forget_exactly_what_they_should(
    ids: list[int], keep: int, data: st.DataObject
) -> None:
    ours, _ = PAIRS["llama"]
    keep = min(keep, len(ids))
    kv = context(ours, ids)
    copy = kv.fork(keep)
    assert copy.length == keep
    fresh = [8, 9] if keep else [8]
    expected = ours.extend(context(ours, ids[:keep]), fresh)
    changed = [kv, copy] if data.draw(st.booleans()) else [copy, kv]
    for one in changed:
        one.truncate(keep)
        agree(ours.extend(one, fresh), expected)


def test_a_fork_and_its_origin_share_pages_until_one_of_them_writes() -> None:
    ours, theirs = pair(LLAMA, tensors(LLAMA))
    ids = real_ids(150)
    kv, its = context(ours, ids), context(theirs, ids)
    free = ours.pool.free
    copy = kv.fork(140)
    assert ours.pool.free == free
    for _ in range(2):
        agree(ours.denoise(copy, [MASK] * 4), theirs.denoise(its.fork(140), [MASK] * 4))
        assert ours.pool.free == free - 1
    agree(ours.denoise(kv, [MASK] * 4), theirs.denoise(its, [MASK] * 4))
    assert ours.pool.free == free - 1
    del copy
    gc.collect()
    assert ours.pool.free == free


def test_contexts_that_are_forgotten_or_cut_give_their_pages_back() -> None:
    ours, _ = pair(LLAMA, tensors(LLAMA))
    free = ours.pool.free
    kv = context(ours, real_ids(300))
    assert ours.pool.free == free - 5
    assert kv.nbytes == 5 * ours.pool.page_bytes
    kv.truncate(65)
    assert ours.pool.free == free - 2
    del kv
    gc.collect()
    assert ours.pool.free == free


def test_when_pages_run_out_there_are_more_and_contexts_keep_what_they_held() -> None:
    ours, theirs = pair(LLAMA, tensors(LLAMA))
    ids = real_ids(100)
    first = context(ours, ids)
    before = ours.denoise(first, [MASK] * 3)
    held = ours.pool.pages.kv.data_ptr()
    many = [context(ours, ids[:20]) for _ in range(FIRST_PAGES)]
    assert ours.pool.moved == 1
    assert ours.pool.pages.kv.data_ptr() != held
    for kv in (first, many[-1]):
        length = kv.length
        agree(
            ours.denoise(kv, [MASK] * 3), theirs.denoise(context(theirs, ids[:length]), [MASK] * 3)
        )
    agree(ours.denoise(first, [MASK] * 3), before)


def test_what_was_found_stays_as_it_is_when_the_pass_runs_again() -> None:
    ours, _ = PAIRS["llama"]
    kv = context(ours, real_ids(70))
    first = ours.denoise(kv, [MASK] * 4)
    kept = [values.copy() for values in (first.ids, first.probs, first.entropy)]
    ours.denoise(kv, [7, 8, 9, 10])
    for now, then in zip((first.ids, first.probs, first.entropy), kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_several_contexts_are_verified_in_one_pass_as_one_by_one() -> None:
    ours, theirs = PAIRS["gated"]
    lengths, tokens = (3, 64, 200), ([7, 8, MASK], [9], [10, 11, 12, 13])
    mine, its = ([context(r, real_ids(n)) for n in lengths] for r in (ours, theirs))
    together = ours.verify_all(mine, tokens)
    for kv, other, ids, found in zip(mine, its, tokens, together, strict=True):
        agree(found, theirs.verify(other, ids))
        assert kv.length == other.length


def test_calls_that_share_a_pass_are_answered_as_alone() -> None:
    ours, theirs = PAIRS["gated"]
    answers = []
    for runtime in (ours, theirs):
        kvs = [context(runtime, real_ids(n)) for n in (3, 64, 200, 10)]
        calls = [
            ForwardCall("extend", kvs[0], real_ids(64, 1)),
            ForwardCall("verify", kvs[1], [7, 8, MASK]),
            ForwardCall("denoise", kvs[2], [9, MASK, 11, MASK]),
            ForwardCall("extend", kvs[3], [12, 13]),
        ]
        answers.append((runtime.forward_batch(calls), [kv.length for kv in kvs]))
    (found, lengths), (expected, others) = answers
    assert lengths == others == [67, 66, 200, 12]
    for mine, its in zip(found, expected, strict=True):
        assert mine.ids.shape == its.ids.shape
        agree(mine, its)
    kv = ours.new_kv_cache()
    with pytest.raises(ValueError, match="each of another context"):
        ours.forward_batch([ForwardCall("extend", kv, [6])] * 2)
    ours.extend(kv, real_ids(64))
    assert kv.nbytes == ours.kv_bytes(64)


def test_every_pass_that_contexts_may_take_can_be_captured_before_they_come() -> None:
    ours, _ = pair(LLAMA, tensors(LLAMA))
    ours.warm(600)
    captured = set(ours._passes)
    context(ours, real_ids(600))
    assert set(ours._passes) == captured
    assert {(bucket.batch, kind) for bucket, kind in captured} == {(1, "free")}
    assert max(bucket.block for bucket, _ in captured) == 64


def test_restricted_passes_are_captured_before_they_come_where_a_format_heals() -> None:
    ours, _ = pair(LLAMA, tensors(LLAMA))
    ours.warm(128, ("free", "restricted"))
    captured = set(ours._passes)
    allowed = np.ones((1, LLAMA.vocab_size), np.bool_)
    kv = context(ours, real_ids(64))
    ours.forward_batch([ForwardCall("extend", kv, [6, 7], allowed=allowed)])
    assert set(ours._passes) == captured


def test_chunks_canvases_contexts_and_batches_that_are_too_large_are_refused() -> None:
    ours, _ = PAIRS["llama"]
    network = load_weights(LLAMA, tensors(LLAMA), torch.device("cpu"), MASK, 256)
    short = CudaRuntime(ModelRunner(network, reference_operations(), Eager), LLAMA, MASK)
    with pytest.raises(ValueError, match="1 to 64 tokens, not 65"):
        ours.extend(ours.new_kv_cache(), [6] * 65)
    with pytest.raises(ValueError, match="1 to 64 tokens, not 0"):
        ours.extend(ours.new_kv_cache(), [])
    with pytest.raises(ValueError, match="a block has 1 to 4096 tokens, not 4097"):
        ours.denoise(ours.new_kv_cache(), [6] * 4097)
    with pytest.raises(ValueError, match="4100 tokens are more than 256 positions"):
        short.bucket(1, 4, 4096)
    with pytest.raises(ValueError, match="33 contexts of 0 tokens"):
        ours.verify_all([ours.new_kv_cache() for _ in range(33)], [[6]] * 33)
    with pytest.raises(TypeError, match="another runtime"):
        ours.extend(object(), [6])  # type: ignore[arg-type]


def test_the_name_says_what_computes_and_how_numbers_are_kept() -> None:
    assert PAIRS["llama"][0].name == "reference cpu float32 weights, float32 contexts"


def test_contexts_in_fp8_take_a_quarter_and_their_scales_and_change_little() -> None:
    ours, _ = PAIRS["llama"]
    small = CudaRuntime(ours.engine, LLAMA, MASK, torch.float8_e4m3fn)
    scales = ours.pool.page_bytes // LLAMA.head_dim
    assert small.pool.page_bytes == ours.pool.page_bytes // 4 + scales
    ids = real_ids(100)
    found, expected = (r.denoise(context(r, ids), [MASK] * 3) for r in (small, ours))
    error = np.abs(found.probs - expected.probs).max()
    assert 1e-5 < error < 0.1
    ours_pages = context(small, ids).fork(70)
    agree(small.extend(ours_pages, [9]), small.extend(context(small, ids[:70]), [9]))


def test_weights_in_fp8_multiply_in_fp8_where_networks_are_wide() -> None:
    wide = ModelConfig(61, 2048, 1, 4, 2, 16, 48, 10_000.0)
    kinds = {"weights": torch.float8_e4m3fn}
    networks = [
        load_weights(config, weights, torch.device("cpu"), MASK, 64, **kinds)
        for config, weights in (
            (wide, tensors(wide)),
            (LLAMA, tensors(LLAMA)),
            (LLAMA, adapted(LLAMA, "qkv")),
        )
    ]
    assert [network.quantize_activations_from for network in networks] == [256, None, None]
    assert [network.mask_id for network in networks] == [None, None, MASK]
    assert networks[0].embedding.dtype == torch.bfloat16
    assert networks[0].head.values.dtype == torch.float8_e4m3fn


@pytest.mark.mini
def test_mini_with_its_adapters_is_the_torch_runtime(cache_dir: Path) -> None:
    card, entry = registry.card("mini"), registry.find("mini")
    weights, mask = registry.merged(entry, cache_dir), card.infill.mask_id
    network = load_weights(
        card.architecture, weights, torch.device("cpu"), mask, 256, torch.float32
    )
    assert [layer.adapters is not None for layer in network.layers] == [False] * 8 + [True] * 22
    assert {layer.adapters.qkv.down.shape[0] for layer in network.layers if layer.adapters} == {32}
    engine = ModelRunner(network, reference_operations(), Eager)
    both = (
        CudaRuntime(engine, card.architecture, mask),
        TorchRuntime(load_denoiser(card.architecture, weights, mask), dtype=torch.float32),
    )
    tokenizer = Tokenizer(registry.BUNDLED / entry.tokenizer, card.infill)
    ids = tokenizer.fim_context("def mean(values):\n    return sum(", ") / len(values)\n").ids
    block = [ids[-2], *[mask] * 3, ids[-1], *[mask] * 2]
    mine, its = (context(runtime, ids) for runtime in both)
    agree(both[0].denoise(mine, block), both[1].denoise(its, block))
    block = [*ids[5:9], mask, mask]
    agree(both[0].verify(mine, block), both[1].verify(its, block))
