"""The torch runtime on a small random network: exact contexts, blocks that see both ways."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.network.adapters import LowRankAdapters
from mercury_model.network.denoiser import Denoiser
from mercury_model.runtime.protocol import ForwardCall, KVCache, Predictions
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig

CONFIG = ModelConfig(61, 32, 2, 4, 2, 8, 48, 10_000.0)
MASK = 5
IDS = st.lists(st.integers(6, 60), min_size=1, max_size=20)


def runtime(mask_rank: int = 0) -> TorchRuntime:
    torch.manual_seed(0)
    gated = LowRankAdapters.zeros(CONFIG, mask_rank) if mask_rank else None
    model = Denoiser(CONFIG, gated, MASK)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return TorchRuntime(model, dtype=torch.float32)


PLAIN, GATED = runtime(), runtime(mask_rank=3)


def context(ids: list[int], model: TorchRuntime = PLAIN) -> KVCache:
    kv = model.new_kv_cache()
    for start in range(0, len(ids), 64):
        model.extend(kv, ids[start : start + 64])
    return kv


def agree(one: Predictions, other: Predictions) -> None:
    np.testing.assert_allclose(one.probs, other.probs, atol=2e-5)
    np.testing.assert_allclose(one.entropy, other.entropy, atol=2e-4)


@given(IDS, st.integers(1, 19))
def test_a_context_read_in_chunks_is_the_one_read_at_once(ids: list[int], cut: int) -> None:
    whole = PLAIN.logits(PLAIN.new_kv_cache(), ids)
    kv = PLAIN.new_kv_cache()
    pieces = [PLAIN.logits(kv, part) for part in (ids[:cut], ids[cut:]) if part]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=2e-5)
    assert kv.length == len(ids)


@given(IDS, IDS)
def test_denoising_leaves_the_context_as_it_was(ids: list[int], block: list[int]) -> None:
    kv, untouched = context(ids), context(ids)
    first = PLAIN.denoise(kv, block)
    assert kv.length == len(ids)
    agree(PLAIN.denoise(kv, block), first)
    agree(PLAIN.extend(kv, [7]), PLAIN.extend(untouched, [7]))


def test_a_block_sees_itself_in_both_directions_and_a_context_only_what_came_before() -> None:
    ids, kv = [9, 10, 11], context([9, 10, 11])
    one, other = PLAIN.denoise(kv, [MASK, MASK, 20]), PLAIN.denoise(kv, [MASK, MASK, 21])
    assert np.abs(one.probs[0] - other.probs[0]).max() > 1e-3
    early = [PLAIN.logits(PLAIN.new_kv_cache(), [*ids, last])[0] for last in (20, 21)]
    torch.testing.assert_close(early[0], early[1], rtol=0, atol=1e-6)


@given(IDS, st.integers(0, 19))
def test_truncating_and_forking_forget_exactly_what_they_should(ids: list[int], keep: int) -> None:
    keep = min(keep, len(ids))
    kv = context(ids)
    copy = kv.fork(keep)
    kv.truncate(keep)
    expected = PLAIN.extend(context(ids[:keep]) if keep else PLAIN.new_kv_cache(), [8, 9])
    agree(PLAIN.extend(kv, [8, 9]), expected)
    agree(PLAIN.extend(copy, [8, 9]), expected)


def test_verify_predicts_after_each_token_what_extend_would() -> None:
    ids, tokens = [9, 10, 11], [12, 13, 14, 15]
    together = PLAIN.verify(context(ids), tokens)
    kv = context(ids)
    for row, token in enumerate(tokens):
        single = PLAIN.extend(kv, [token])
        np.testing.assert_array_equal(together.ids[row], single.ids[0])
        np.testing.assert_allclose(together.probs[row], single.probs[0], atol=2e-5)


@pytest.mark.parametrize("model", [PLAIN, GATED], ids=["plain", "gated"])
@given(
    st.lists(
        st.tuples(st.sampled_from(["extend", "verify", "denoise"]), IDS, IDS, st.integers(0, 3)),
        min_size=1,
        max_size=5,
    )
)
def test_what_shares_a_pass_is_not_seen(
    model: TorchRuntime, calls: list[tuple[Any, list[int], list[int], int]]
) -> None:
    shared, alone = (
        [
            ForwardCall(
                kind, context(before, model), [*ids, *[MASK] * (0 if kind == "extend" else masks)]
            )
            for kind, before, ids, masks in calls
        ]
        for _ in range(2)
    )
    for found, one, other in zip(model.forward_batch(shared), shared, alone, strict=True):
        agree(found, other.on(model))
        assert one.kv.length == other.kv.length
        agree(model.extend(one.kv, [7, 8]), model.extend(other.kv, [7, 8]))


def test_a_context_shares_no_pass_with_itself() -> None:
    with pytest.raises(ValueError, match="each of another context"):
        PLAIN.forward_batch([ForwardCall("extend", PLAIN.new_kv_cache(), [6])] * 2)


@pytest.mark.parametrize("tokens", [0, 1, 256, 257])
def test_what_a_context_takes_is_known_beforehand(tokens: int) -> None:
    kv = PLAIN.new_kv_cache()
    kv.reserve(tokens)
    assert kv.nbytes == PLAIN.kv_bytes(tokens)


def test_a_context_grows_past_its_first_room() -> None:
    ids = [6 + n % 50 for n in range(500)]
    assert context(ids).length == 500


def test_predictions_are_the_softmax_over_the_whole_vocabulary() -> None:
    logits = PLAIN.logits(PLAIN.new_kv_cache(), [9, 10]).double()
    probs = torch.softmax(logits[-1], -1)
    kv = PLAIN.new_kv_cache()
    found = PLAIN.extend(kv, [9, 10])
    np.testing.assert_allclose(found.probs[0], probs.topk(16).values.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.entropy[0], -(probs * probs.log()).sum().item(), atol=1e-4)


def test_gated_adapters_act_at_masks_and_leave_the_autoregressive_path_alone() -> None:
    ids = [9, 10, 11]
    torch.testing.assert_close(
        GATED.logits(GATED.new_kv_cache(), ids),
        TorchRuntime(_without_adapters(), dtype=torch.float32).logits(GATED.new_kv_cache(), ids),
    )
    masked = GATED.denoise(context(ids, GATED), [MASK, MASK])
    plain = TorchRuntime(_without_adapters(), dtype=torch.float32)
    assert (
        np.abs(masked.probs - plain.denoise(context(ids, plain), [MASK, MASK]).probs).max() > 1e-3
    )


def _without_adapters() -> Denoiser:
    bare = Denoiser(CONFIG)
    own = GATED._model.state_dict()
    bare.load_state_dict({name: own[name] for name in bare.state_dict()})
    return bare


def test_a_chunk_that_is_too_long_and_a_foreign_context_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        PLAIN.extend(PLAIN.new_kv_cache(), [6] * 65)
    with pytest.raises(TypeError, match="another runtime"):
        PLAIN.extend(object(), [6])  # type: ignore[arg-type]
