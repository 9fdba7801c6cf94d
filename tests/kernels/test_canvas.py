"""Whole canvases through the runtime, on the kernels: text before and after masks, all of it seen
both ways.
"""

import numpy as np
import pytest
import torch
from kernel_fakes import CONFIG, MASK, denoiser, network

from mercury_kernels.dispatch import triton_operations
from mercury_kernels.passes import Engine
from mercury_kernels.replay import Eager
from mercury_model.runtime.kernels import KernelRuntime
from mercury_model.runtime.torch import TorchRuntime


def canvas(length: int) -> list[int]:
    """Random tokens about a third of masks."""
    ids = np.random.default_rng(length).integers(5, 98, length).tolist()
    third = length // 3
    return [*ids[:third], *[MASK] * third, *ids[2 * third :]]


def on_kernels() -> KernelRuntime:
    engine = Engine(network(denoiser(), positions=256), triton_operations(), Eager)
    return KernelRuntime(engine, CONFIG, MASK)


@pytest.mark.slow
@pytest.mark.parametrize("length", [65, 127, 200])
def test_a_canvas_is_predicted_as_by_torch_whatever_its_length(
    interpreter: None, poisoned: None, length: int
) -> None:
    ours, theirs = on_kernels(), TorchRuntime(denoiser(), dtype=torch.float32)
    ids = canvas(length)
    found, expected = (each.denoise(each.new_kv(), ids) for each in (ours, theirs))
    np.testing.assert_allclose(found.probs, expected.probs, atol=2e-5)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=2e-4)
    distinct = expected.probs[:, 0] > expected.probs[:, 1] + 1e-4
    assert distinct.mean() > 0.9
    np.testing.assert_array_equal(found.ids[distinct, 0], expected.ids[distinct, 0])
