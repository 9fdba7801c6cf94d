"""Whatever a plan for a GPU may choose runs, takes what is counted, and changes little."""

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_fakes import tensors as tensors_of
from random_weights import Tensors, adapted, tensors

from mercury_kernels.dispatch import reference_operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_model.memory import NetworkShape
from mercury_model.memory.inference import InferenceLoad, kv_bytes, on_cuda, weight_bytes
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, KernelDtypes
from mercury_model.runtime.cuda.runtime import CudaRuntime
from mercury_model.runtime.cuda.weights import DTYPES, load_weights
from mercury_model.runtime.limits import MAX_POSITIONS
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

MASK = 5
PLAIN = ModelConfig(61, 32, 2, 4, 2, 16, 48, 10_000.0)
CPU = torch.device("cpu")

every_way = pytest.mark.parametrize(
    "dtypes", KERNEL_DTYPES, ids=lambda dtypes: f"{dtypes.weights}-{dtypes.contexts}"
)


def runtime(
    config: ModelConfig, weights: Tensors, mask_id: int, dtypes: KernelDtypes
) -> CudaRuntime:
    """As a GPU would have it, over the reference."""
    network = load_weights(config, weights, CPU, mask_id, MAX_POSITIONS, DTYPES[dtypes.weights])
    engine = ModelRunner(network, reference_operations(), Eager)
    return CudaRuntime(engine, config, mask_id, DTYPES[dtypes.contexts])


def acting(config: ModelConfig) -> Tensors:
    """Adapters that act in every layer, and share inner halves as mini's do."""
    found = adapted(config, "qkvgu")
    last = f"layers.{config.num_layers - 1}."
    halves = [name for name in found if name.endswith("mask_b")]
    return found | {name: found[last + name.split(".", 2)[2]] for name in halves}


@every_way
@pytest.mark.parametrize(
    ("config", "weights", "rank", "vocabulary"),
    [
        (PLAIN, tensors(PLAIN), 0, 0),
        (PLAIN, acting(PLAIN), 3, 0),
        (PLAIN, tensors(PLAIN) | {"vocabulary": np.arange(1, 61, 2, np.int32)}, 0, 30),
        (
            replace(PLAIN, tie_word_embeddings=False),
            tensors(replace(PLAIN, tie_word_embeddings=False)),
            0,
            0,
        ),
        (replace(PLAIN, qkv_bias=True), tensors(replace(PLAIN, qkv_bias=True)), 0, 0),
        (replace(PLAIN, qk_norm=True), tensors(replace(PLAIN, qk_norm=True)), 0, 0),
    ],
    ids=["plain", "adapted", "some-are-predicted", "own-head", "biases", "normed-heads"],
)
def test_weights_are_counted_as_the_kernels_have_them(
    config: ModelConfig, weights: Tensors, rank: int, vocabulary: int, dtypes: KernelDtypes
) -> None:
    network = load_weights(config, weights, CPU, MASK, MAX_POSITIONS, DTYPES[dtypes.weights])
    held = {tensor.data_ptr(): tensor.nbytes for tensor in tensors_of(network)}
    shape = NetworkShape("", config, rank, vocabulary=vocabulary)
    names = 4 * vocabulary
    assert weight_bytes(shape, on_cuda(dtypes)) == sum(held.values()) - names


@every_way
@pytest.mark.parametrize("tokens", [1, 64, 65, 300])
def test_kv_bytes_equal_the_memory_of_the_kernels(dtypes: KernelDtypes, tokens: int) -> None:
    made = runtime(PLAIN, tensors(PLAIN), MASK, dtypes)
    kv = made.new_kv_cache()
    kv.reserve(tokens)
    counted = kv_bytes(NetworkShape("", PLAIN), on_cuda(dtypes), InferenceLoad(1, tokens, 1))
    assert counted == made.kv_bytes(tokens) == kv.nbytes


CODE = """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)
"""


TOLERANCES = {KernelDtypes("bf16", "bf16"): 0.02, KernelDtypes("int8", "bf16"): 0.05}
"""The largest difference of probabilities, 0.1 unless given."""


@every_way
def test_tiny_predicts_nearly_the_same_in_all_types(dtypes: KernelDtypes) -> None:
    """Nine of ten likeliest tokens, of rows that read code and of masks, are those of fp32."""
    card, entry = registry.card("tiny"), registry.find("tiny")
    weights, mask = registry.merged(entry, Path()), card.infill.mask_id
    exact = TorchRuntime(load_denoiser(card.architecture, weights, mask), dtype=torch.float32)
    ours = runtime(card.architecture, weights, mask, dtypes)
    tokenizer = Tokenizer(registry.BUNDLED / entry.tokenizer, card.infill)
    ids = tokenizer.fim_context(CODE * 3, "\n").ids[:192]
    found = []
    for each in (ours, exact):
        kv = each.new_kv_cache()
        for start in (0, 64):
            each.extend(kv, ids[start : start + 64])
        both = each.denoise(kv, [mask] * 8), each.verify(kv, ids[128:])
        found.append([np.concatenate(parts) for parts in zip(*map(astuple, both), strict=True)])
    (likely, chances, _), (exactly, exact_chances, _) = found
    assert (likely[:, 0] == exactly[:, 0]).mean() >= 0.9
    assert np.abs(chances - exact_chances).max() < TOLERANCES.get(dtypes, 0.1)
