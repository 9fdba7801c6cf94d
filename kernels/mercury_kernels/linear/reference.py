"""The reference of `linear` in plain torch."""

from torch import Tensor

from mercury_kernels.adapter import Gated
from mercury_kernels.weights import Rows, Weight, accumulator_dtype, dequantize_rows


def linear(x: Rows, weight: Weight, gated: Gated | None = None) -> Tensor:
    """y[m, n] = Σ_k x[m, k] · w[n, k], plus the adapter at masked rows.

    `x` [M, K], `weight` [N, K]. Returns partial sums [S, M, N] in fp32 or fp64, for any S; y is
    their sum over S.
    """
    dtype = accumulator_dtype(x)
    rows = dequantize_rows(x, dtype)
    y = rows @ weight.dequantize(dtype).T
    return (y if gated is None else y + gated.delta(rows))[None]
