"""Runtimes whose weights are replaced while they run, as between two steps of training."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from random_weights import Tensors, adapted, tensors

from mercury_kernels.dispatch import reference_operations
from mercury_kernels.passes import Engine
from mercury_kernels.replay import Eager
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.cuda.runtime import CudaRuntime
from mercury_model.runtime.cuda.weights import load_weights
from mercury_model.runtime.protocol import ReloadableRuntime
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig

CONFIG = ModelConfig(61, 32, 2, 4, 2, 16, 48, 10_000.0, qkv_bias=True)
MASK = 5


def on_torch(weights: Tensors) -> TorchRuntime:
    return TorchRuntime(load_denoiser(CONFIG, weights, MASK), dtype=torch.float32)


def on_kernels(dtype: torch.dtype) -> Callable[[Tensors], CudaRuntime]:
    def made(weights: Tensors) -> CudaRuntime:
        network = load_weights(CONFIG, weights, torch.device("cpu"), MASK, 128, dtype)
        return CudaRuntime(Engine(network, reference_operations(), Eager), CONFIG, MASK)

    return made


def probabilities(runtime: ReloadableRuntime) -> np.ndarray:
    kv = runtime.new_kv_cache()
    runtime.extend(kv, [7, 8, 9])
    return runtime.verify(kv, [10, MASK, MASK]).probs


EVERY = pytest.mark.parametrize(
    "made",
    [on_torch, on_kernels(torch.float32), on_kernels(torch.int8)],
    ids=["torch", "kernels-fp32", "kernels-int8"],
)


@EVERY
def test_weights_that_are_loaded_later_run_as_those_loaded_first(
    made: Callable[[Tensors], ReloadableRuntime],
) -> None:
    first = adapted(CONFIG, "qkv")
    second = {name: values[..., ::-1].copy() for name, values in first.items()}
    untouched = {name: values.copy() for name, values in first.items()}
    runtime = made(first)
    before = probabilities(runtime)
    runtime.load_weights(second)
    assert np.array_equal(probabilities(runtime), probabilities(made(second)))
    runtime.load_weights(first)
    assert np.array_equal(probabilities(runtime), before)
    for name, values in untouched.items():
        assert np.array_equal(first[name], values)


@EVERY
@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {name: v for name, v in weights.items() if name != "layers.1.k.bias"},
        lambda weights: {**weights, "norm": np.ones(31, np.float32)},
    ],
    ids=["missing", "shape"],
)
def test_weights_of_another_network_are_refused_and_change_nothing(
    made: Callable[[Tensors], ReloadableRuntime], change: Callable[[Tensors], Tensors]
) -> None:
    weights = tensors(CONFIG)
    runtime = made(weights)
    before = probabilities(runtime)
    with pytest.raises(ValueError, match="do not fit the network"):
        runtime.load_weights(change(weights))
    assert np.array_equal(probabilities(runtime), before)
