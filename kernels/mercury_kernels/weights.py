"""Weight matrices: in the activation dtype, or quantized with a scale for each row."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require

MAX_MAGNITUDE = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}
"""The largest magnitude of each quantized dtype."""

MIN_ABSMAX = 1e-12
"""The lower bound of the largest magnitude of a row, so that no scale is zero."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix [N, K] as in `nn.Linear`: row n is `values[n] * scale[n]`.

    `scale` [N] fp32 exists for quantized dtypes only. Converting the values to bf16 or fp32 is
    exact, so rounding when they are quantized is the only error.
    """

    values: Tensor
    scale: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of the values and scales."""
        return self.values.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The matrix [N, K] in `dtype`, scales applied."""
        values = self.values.to(dtype)
        return values if self.scale is None else values * self.scale.to(dtype)[:, None]


def quantized(matrix: Tensor, dtype: torch.dtype) -> Weight:
    """`matrix` [N, K] stored as `dtype`; a dtype of MAX_MAGNITUDE gets a scale for each row."""
    if dtype not in MAX_MAGNITUDE:
        return Weight(matrix.to(dtype))
    peak = matrix.float().abs().amax(1).clamp_min(MIN_ABSMAX)
    scale = peak / MAX_MAGNITUDE[dtype]
    scaled = matrix.float() / scale[:, None]
    if not dtype.is_floating_point:
        scaled = scaled.round()
    return Weight(scaled.to(dtype), scale)


Rows: TypeAlias = Tensor | Weight
"""Activations [M, K]: a tensor, or fp8 with a scale for each row if the weights are fp8 too."""


def dequantize_rows(x: Rows, dtype: torch.dtype) -> Tensor:
    """The activations [M, K] in `dtype`, scales applied."""
    return x.dequantize(dtype) if isinstance(x, Weight) else x.to(dtype)


def accumulator_dtype(x: Rows) -> torch.dtype:
    """The dtype of sums: fp32, or fp64 if the activations are."""
    own = torch.float32 if isinstance(x, Weight) else x.dtype
    return torch.promote_types(own, torch.float32)


def output_dtype(x: Rows) -> torch.dtype:
    """The dtype of results: that of the activations, or bf16 if these are quantized."""
    return torch.bfloat16 if isinstance(x, Weight) else x.dtype


def require_rows(x: Rows) -> Weight:
    """`x` as a `Weight`, without a scale if it is a tensor. Raises TensorMismatch."""
    if not isinstance(x, Weight):
        require("x", x, [None, None], [torch.float32, torch.bfloat16])
        return Weight(x)
    require("x", x.values, [None, None], [torch.float8_e4m3fn])
    if x.scale is None:
        raise TensorMismatch("x is fp8, so it needs a scale")
    require("x.scale", x.scale, [x.values.shape[0]], [torch.float32], x.values)
    return x


def require_weight(name: str, weight: Weight, features: int | None, x: Tensor) -> None:
    """Raise TensorMismatch unless `weight` is [features, K] for x [M, K].

    Quantized dtypes need a scale, others must have none. Activations in fp8 need weights in fp8.
    """
    kinds = [x.dtype] if x.dtype == torch.float8_e4m3fn else [x.dtype, *MAX_MAGNITUDE]
    require(name, weight.values, [features, x.shape[1]], kinds, x)
    if (weight.scale is not None) != (weight.values.dtype in MAX_MAGNITUDE):
        raise TensorMismatch(
            f"{name} is {weight.values.dtype}; a scale goes with a quantized dtype"
        )
    if weight.scale is not None:
        require(f"{name}.scale", weight.scale, [weight.values.shape[0]], [torch.float32], x)
