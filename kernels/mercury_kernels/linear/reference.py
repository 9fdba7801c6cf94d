"""What `linear` means, in plain torch."""

import torch
from torch import Tensor

from mercury_kernels.weights import Weight


def linear(x: Tensor, weight: Weight) -> Tensor:
    """y[m, n] = Σ_k x[m, k] · w[n, k].

    `x` [M, K], `weight` [N, K]. Returns partial sums [S, M, N] in fp32 or wider, for any S: their
    sum over S is y.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return (x.to(wide) @ weight.wide(wide).T)[None]
