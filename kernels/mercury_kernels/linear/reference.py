"""What `linear` means, in plain torch."""

from torch import Tensor

from mercury_kernels.adapter import Gated
from mercury_kernels.weights import Rows, Weight, wide_rows, wider


def linear(x: Rows, weight: Weight, gated: Gated | None = None) -> Tensor:
    """y[m, n] = Σ_k x[m, k] · w[n, k], and at masked rows what an adapter adds.

    `x` [M, K], `weight` [N, K]. Returns partial sums [S, M, N] in fp32 or wider, for any S: their
    sum over S is y.
    """
    wide = wider(x)
    rows = wide_rows(x, wide)
    y = rows @ weight.wide(wide).T
    return (y if gated is None else y + gated.added(rows))[None]
