"""The kernels' runtime and torch's, over the same random weights, and how their answers compare."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_weights import Tensors, adapted, tensors

from mercury_kernels.dispatch import reference_operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.cuda.runtime import CudaRuntime
from mercury_model.runtime.cuda.weights import load_weights
from mercury_model.runtime.protocol import KVCache, Predictions, Runtime
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig

MASK = 5
LLAMA = ModelConfig(61, 32, 2, 4, 2, 8, 48, 10_000.0)
QWEN2 = replace(LLAMA, qkv_bias=True, tie_word_embeddings=False)
QWEN3 = replace(LLAMA, qk_norm=True)


def pair(config: ModelConfig, weights: Tensors) -> tuple[CudaRuntime, TorchRuntime]:
    """Both runtimes of the same weights, in fp32."""
    network = load_weights(config, weights, torch.device("cpu"), MASK, 8192, torch.float32)
    ours = CudaRuntime(ModelRunner(network, reference_operations(), Eager), config, MASK)
    return ours, TorchRuntime(load_denoiser(config, weights, MASK), dtype=torch.float32)


PAIRS = {
    "llama": pair(LLAMA, tensors(LLAMA)),
    "qwen2": pair(QWEN2, tensors(QWEN2)),
    "qwen3": pair(QWEN3, tensors(QWEN3)),
    "gated": pair(LLAMA, adapted(LLAMA, "qkv")),
    "gated, each its own": pair(LLAMA, adapted(LLAMA, "")),
    "some are predicted": pair(
        LLAMA, tensors(LLAMA) | {"vocabulary": np.arange(1, 61, 2, np.int32)}
    ),
}
ours_and_theirs = pytest.mark.parametrize(
    ("ours", "theirs"), PAIRS.values(), ids=[name.replace(" ", "-") for name in PAIRS]
)


def context(runtime: Runtime, ids: Sequence[int]) -> KVCache:
    kv = runtime.new_kv_cache()
    for start in range(0, len(ids), 64):
        runtime.extend(kv, ids[start : start + 64])
    return kv


def real_ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(6, 61, count).tolist()


def agree(found: Predictions, expected: Predictions) -> None:
    np.testing.assert_allclose(found.probs, expected.probs, atol=2e-5)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=2e-4)
    distinct = expected.probs[:, 0] > expected.probs[:, 1] + 1e-4
    np.testing.assert_array_equal(found.ids[distinct, 0], expected.ids[distinct, 0])


def canvas(length: int) -> list[int]:
    """Tokens, then masks, then tokens: about a third each."""
    ids, third = real_ids(length, length), length // 3
    return [*ids[:third], *[MASK] * third, *ids[2 * third :]]
