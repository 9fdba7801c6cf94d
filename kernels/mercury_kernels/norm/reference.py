"""The reference of `add_rmsnorm` in plain torch."""

import torch
from torch import Tensor


def add_rmsnorm(parts: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """r ← r + Σ_s parts[s];  y = r / √(mean(r²) + eps) · weight.

    `parts` [S, M, N] are partial sums of the output of a layer; S = 0 adds nothing. `residual`
    [M, N] is updated in place and rounded to its dtype before it is normalized. `weight` [N].
    Returns y [M, N] in the dtype of `residual`.
    """
    dtype = torch.promote_types(residual.dtype, torch.float32)
    residual.copy_(residual.to(dtype) + parts.to(dtype).sum(0))
    r = residual.to(dtype)
    scale = torch.rsqrt(r.square().mean(-1, keepdim=True) + eps)
    return (r * scale * weight.to(dtype)).to(residual.dtype)
