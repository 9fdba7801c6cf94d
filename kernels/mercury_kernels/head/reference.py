"""What `predict` means, in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.weights import Weight


@dataclass(frozen=True, slots=True)
class Predicted:
    """Of each row's logits l over V tokens: the likeliest, and two figures of their softmax p.

    `ids` [M, K] int32, likeliest first, of equal logits the lowest id first; `logits` [M, K] fp32;
    `lse` [M] = log Σ_v e^l_v, so that p = e^(l − lse); `entropy` [M] = −Σ_v p_v log p_v, in nats.
    Column 0 is the arg-max and the maximum.
    """

    ids: Tensor
    logits: Tensor
    lse: Tensor
    entropy: Tensor


def predict(x: Tensor, weight: Weight, top: int) -> Predicted:
    """l = x · wᵀ, and of it the `top` likeliest, log-sum-exp and entropy.

    `x` [M, K] hidden states after the last norm, `weight` [V, K].
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    logits = x.to(wide) @ weight.wide(wide).T
    lse = logits.logsumexp(-1)
    entropy = lse - (logits.softmax(-1) * logits).sum(-1)
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    return Predicted(ids[:, :top].int(), ordered[:, :top].contiguous(), lse, entropy)
