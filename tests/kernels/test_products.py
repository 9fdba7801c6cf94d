from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_kernels.adapter import Adapter, Gated
from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.linear import cases as linear_cases
from mercury_kernels.linear.reference import linear
from mercury_kernels.swiglu import cases as swiglu_cases
from mercury_kernels.tile import MAX_SPLITS, splits, tile_for
from mercury_kernels.weights import MAX_MAGNITUDE, Weight, quantized


@pytest.mark.parametrize("dtype", list(MAX_MAGNITUDE), ids=["fp8", "int8"])
def test_narrow_weights_keep_each_row_within_half_a_step(dtype: torch.dtype) -> None:
    matrix = torch.randn(7, 60, generator=torch.Generator().manual_seed(1))
    matrix[2] *= 1e-3
    matrix[4] = 0
    error = (quantized(matrix, dtype).dequantize(torch.float32) - matrix).abs().amax(1)
    step = 32 / 448 if dtype == torch.float8_e4m3fn else 1 / 127
    assert (error <= matrix.abs().amax(1) * step / 2 + 1e-12).all()


@given(st.integers(1, 2048), st.integers(1, 20000), st.integers(1, 20000))
def test_a_product_is_split_no_further_than_its_depth_allows(
    tokens: int, features: int, depth: int
) -> None:
    tile = tile_for(tokens, torch.bfloat16, torch.bfloat16)
    count = splits(tokens, features, depth, tile)
    assert count in (1, 2, 4, 8)
    assert count <= MAX_SPLITS
    assert count == 1 or depth / count >= tile.depth


def test_a_small_product_is_split_until_the_chip_is_full() -> None:
    tile = tile_for(32, torch.bfloat16, torch.bfloat16)
    assert splits(32, 896, 4864, tile) == 8
    assert splits(32, 151936, 896, tile) == 1


def _linear() -> tuple[Callable[..., Any], dict[str, Any]]:
    from mercury_kernels.linear.kernel import linear

    return linear, linear_cases.LinearCase(5, 16, 32).inputs(Source())


def _swiglu() -> tuple[Callable[..., Any], dict[str, Any]]:
    from mercury_kernels.swiglu.kernel import swiglu

    return swiglu, swiglu_cases.SwigluCase(5, 16, 32).inputs(Source())


def gated(rank: int = 3, depth: int = 32, ids: int = 5) -> Gated:
    adapter = Adapter(torch.zeros(rank, depth), torch.zeros(16, rank))
    return Gated(adapter, torch.zeros(ids, dtype=torch.int32), 9)


@pytest.mark.parametrize(
    ("call", "name", "value"),
    [
        (_linear, "x", torch.zeros(5, 31)),
        (_linear, "x", torch.zeros(5, 32, dtype=torch.float16)),
        (_linear, "x", quantized(torch.ones(5, 32), torch.float8_e4m3fn)),
        (_linear, "x", Weight(torch.zeros(5, 32, dtype=torch.float8_e4m3fn))),
        (_linear, "x.scale", Weight(torch.zeros(5, 32).to(torch.float8_e4m3fn), torch.ones(4))),
        (_linear, "ids", gated(ids=4)),
        (_linear, "adapter.down", gated(depth=31)),
        (_linear, "adapter.down", gated(rank=129)),
        (_swiglu, "adapter.up", gated()),
        (_linear, "weight", Weight(torch.zeros(16, 32, dtype=torch.int8))),
        (_linear, "weight", Weight(torch.zeros(16, 32), torch.ones(16))),
        (_linear, "weight", Weight(torch.zeros(32, 16).T)),
        (_linear, "weight", Weight(torch.zeros(16, 32, dtype=torch.int8), torch.ones(15))),
        (_swiglu, "gate", Weight(torch.zeros(16, 31))),
        (_swiglu, "up", Weight(torch.zeros(15, 32))),
        (_swiglu, "up", quantized(torch.ones(16, 32), torch.int8)),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None,
    call: Callable[[], tuple[Callable[..., Any], dict[str, Any]]],
    name: str,
    value: Any,
) -> None:
    function, arguments = call()
    argument = "gated" if isinstance(value, Gated) else name.partition(".")[0]
    # A wrong x first shows against the weight; either names a tensor of the same product.
    with pytest.raises(TensorMismatch, match=f"{name}|weight" if argument == "x" else name):
        function(**{**arguments, argument: value})


def test_an_adapter_adds_at_masks_what_it_would_add_to_the_matrix() -> None:
    case = linear_cases.LinearCase(6, 10, 12, rank=3)
    given_ = case.inputs(Source())
    adapter, masked = given_["gated"].adapter, given_["gated"].ids == linear_cases.MASK
    assert 0 < int(masked.sum()) < 6
    got = linear(**given_)[0]
    whole = given_["weight"].values + adapter.up @ adapter.down
    plain = linear(given_["x"], given_["weight"])[0]
    assert torch.allclose(got[masked], given_["x"][masked] @ whole.T, atol=1e-5)
    assert torch.equal(got[~masked], plain[~masked])
