"""Weight matrices as the kernels take them: plain, or narrow with a scale for each output row."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require

LARGEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}
"""The largest magnitude of each narrow type."""

SMALLEST_PEAK = 1e-12
"""A row with nothing larger is scaled as if it had that."""


@dataclass(frozen=True, slots=True)
class Weight:
    """`values` [N, K] as in `nn.Linear`; `scale` [N] fp32 for narrow types, else None.

    Row n of the matrix meant is `values[n] * scale[n]`. Both conversions of the values, to bf16
    and to fp32, are exact, so that the narrowing is the only loss.
    """

    values: Tensor
    scale: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """What a pass over the matrix reads."""
        return self.values.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def wide(self, dtype: torch.dtype) -> Tensor:
        """The matrix meant, [N, K] in `dtype`."""
        values = self.values.to(dtype)
        return values if self.scale is None else values * self.scale.to(dtype)[:, None]


def quantized(matrix: Tensor, dtype: torch.dtype) -> Weight:
    """`matrix` [N, K] stored as `dtype`; one of LARGEST is scaled by its rows' largest values."""
    if dtype not in LARGEST:
        return Weight(matrix.to(dtype))
    peak = matrix.float().abs().amax(1).clamp_min(SMALLEST_PEAK)
    scale = peak / LARGEST[dtype]
    scaled = matrix.float() / scale[:, None]
    if not dtype.is_floating_point:
        scaled = scaled.round()
    return Weight(scaled.to(dtype), scale)


Rows: TypeAlias = Tensor | Weight
"""Activations [M, K]: plain, or in fp8 with a scale a row, for products with weights in fp8."""


def wide_rows(x: Rows, dtype: torch.dtype) -> Tensor:
    """The activations meant, [M, K] in `dtype`."""
    return x.wide(dtype) if isinstance(x, Weight) else x.to(dtype)


def wider(x: Rows) -> torch.dtype:
    """What sums are computed in: fp32, or wider where the activations are."""
    own = torch.float32 if isinstance(x, Weight) else x.dtype
    return torch.promote_types(own, torch.float32)


def plain_type(x: Rows) -> torch.dtype:
    """The type of what is computed from them: their own, for narrow ones bf16."""
    return torch.bfloat16 if isinstance(x, Weight) else x.dtype


def require_rows(x: Rows) -> Weight:
    """`x` must be rows as products take them; plain ones come back without a scale."""
    if not isinstance(x, Weight):
        require("x", x, [None, None], [torch.float32, torch.bfloat16])
        return Weight(x)
    require("x", x.values, [None, None], [torch.float8_e4m3fn])
    if x.scale is None:
        raise TensorMismatch("x is in fp8; a scale goes with it")
    require("x.scale", x.scale, [x.values.shape[0]], [torch.float32], x.values)
    return x


def require_weight(name: str, weight: Weight, features: int | None, x: Tensor) -> None:
    """`weight` must be [features, K] for x [M, K], and scaled exactly where it is narrow.

    Rows in fp8 go with weights in fp8 alone.
    """
    kinds = [x.dtype] if x.dtype == torch.float8_e4m3fn else [x.dtype, *LARGEST]
    require(name, weight.values, [features, x.shape[1]], kinds, x)
    if (weight.scale is not None) != (weight.values.dtype in LARGEST):
        raise TensorMismatch(f"{name} is {weight.values.dtype}; a scale goes with a narrow type")
    if weight.scale is not None:
        require(f"{name}.scale", weight.scale, [weight.values.shape[0]], [torch.float32], x)
