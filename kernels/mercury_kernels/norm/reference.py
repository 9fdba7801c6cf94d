"""What `add_rmsnorm` means, in plain torch."""

import torch
from torch import Tensor


def add_rmsnorm(parts: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """r ← r + Σ_s parts[s];  y = r / √(mean(r²) + eps) · weight.

    `parts` [S, M, N]: partial sums of the layer's output, S = 0 where there is nothing to add;
    `residual` [M, N] is updated in place, rounded to its own type before it is normalised;
    `weight` [N]. Returns y [M, N] in the type of `residual`.
    """
    wide = torch.promote_types(residual.dtype, torch.float32)
    residual.copy_(residual.to(wide) + parts.to(wide).sum(0))
    r = residual.to(wide)
    scale = torch.rsqrt(r.square().mean(-1, keepdim=True) + eps)
    return (r * scale * weight.to(wide)).to(residual.dtype)
