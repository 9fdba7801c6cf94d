"""The runtime on the kernels: whole canvases, and every way to keep weights and contexts."""

import numpy as np
import pytest
import torch
from kernel_fakes import CONFIG, MASK, denoiser, network
from random_weights import adapted

from mercury_kernels.dispatch import triton_operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_model.network.denoiser import load_denoiser as loaded
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, KernelDtypes
from mercury_model.runtime.cuda.runtime import CudaRuntime
from mercury_model.runtime.cuda.weights import DTYPES, load_weights
from mercury_model.runtime.protocol import KVCache, Runtime
from mercury_model.runtime.torch import TorchRuntime


def both() -> tuple[CudaRuntime, TorchRuntime]:
    """The runtimes on the kernels and in torch, over the same random weights."""
    engine = ModelRunner(network(denoiser(), positions=256), triton_operations(), Eager)
    ours = CudaRuntime(engine, CONFIG, MASK)
    return ours, TorchRuntime(denoiser(), dtype=torch.float32)


def canvas(length: int) -> list[int]:
    """Tokens, then masks, then tokens: about a third each."""
    ids = np.random.default_rng(length).integers(5, 98, length).tolist()
    third = length // 3
    return [*ids[:third], *[MASK] * third, *ids[2 * third :]]


@pytest.mark.slow
@pytest.mark.parametrize("length", [65, 127, 200])
def test_a_canvas_is_predicted_as_by_torch_whatever_its_length(
    interpreter: None, poisoned: None, length: int
) -> None:
    found, expected = (each.denoise(each.new_kv_cache(), canvas(length)) for each in both())
    np.testing.assert_allclose(found.probs, expected.probs, atol=2e-5)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=2e-4)
    distinct = expected.probs[:, 0] > expected.probs[:, 1] + 1e-4
    assert distinct.mean() > 0.9
    np.testing.assert_array_equal(found.ids[distinct, 0], expected.ids[distinct, 0])


def test_part_of_a_canvas_is_renewed_as_by_torch_and_the_rest_is_kept(
    interpreter: None, poisoned: None
) -> None:
    """Seven rows in a pass for sixteen: the padding stands where the canvas goes on."""
    whole = canvas(30)
    found = []
    for runtime in both():
        kv = runtime.new_kv_cache()
        runtime.renew(kv, whole)
        changed = runtime.renew(kv, [7, 8, 9, *whole[13:17]], 10)
        found.append(np.concatenate([changed.probs, runtime.renew(kv, whole[25:], 25).probs]))
    np.testing.assert_allclose(*found, atol=2e-5)


TOLERANCES = {KernelDtypes("bf16", "bf16"): 0.01, KernelDtypes("int8", "bf16"): 0.02}
"""The largest difference of probabilities, 0.04 unless given."""


@pytest.mark.parametrize(
    "dtypes",
    [
        pytest.param(
            dtypes,
            id=f"{dtypes.weights}-{dtypes.contexts}",
            marks=() if dtypes == KernelDtypes("int8", "fp8") else pytest.mark.slow,
        )
        for dtypes in KERNEL_DTYPES
    ],
)
def test_predictions_are_near_fp32_in_all_types(
    interpreter: None, poisoned: None, dtypes: KernelDtypes
) -> None:
    weights = adapted(CONFIG, "qkv")
    net = load_weights(CONFIG, weights, torch.device("cpu"), MASK, 128, DTYPES[dtypes.weights])
    engine = ModelRunner(net, triton_operations(), Eager)
    ours = CudaRuntime(engine, CONFIG, MASK, DTYPES[dtypes.contexts])
    theirs = TorchRuntime(loaded(CONFIG, weights, MASK), dtype=torch.float32)
    mine, its = (
        runtime.denoise(context(runtime), [30, *[MASK] * 6, 31]) for runtime in (ours, theirs)
    )
    tolerance = TOLERANCES.get(dtypes, 0.04)
    assert np.abs(mine.probs - its.probs).max() < tolerance
    distinct = its.probs[:, 0] > its.probs[:, 1] + tolerance
    assert distinct.sum() > 4
    np.testing.assert_array_equal(mine.ids[distinct, 0], its.ids[distinct, 0])


def context(runtime: Runtime) -> KVCache:
    """Sixteen tokens, read at once."""
    kv = runtime.new_kv_cache()
    runtime.extend(kv, range(10, 26))
    return kv
