"""What `predict` means, in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.weights import Rows, Weight, wide_rows, wider

BLOCKED_LOGIT = -1e30
"""The logit of a token that a row must not give. It is finite, so that the entropy is a number."""


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


def predict(
    x: Rows,
    weight: Weight,
    top: int,
    vocabulary: Tensor | None = None,
    allowed: Tensor | None = None,
) -> Predicted:
    """l = x · wᵀ, and of it the `top` likeliest, log-sum-exp and entropy.

    `x` [M, K] hidden states after the last norm, `weight` [V, K]. `vocabulary` [V] int32,
    ascending, is which token each row of the weight stands for, where that is not its own place.
    `allowed` [M, V] bool restricts each row to the tokens that are True: the logits of the others
    are BLOCKED_LOGIT, and their probabilities 0.
    """
    wide = wider(x)
    logits = wide_rows(x, wide) @ weight.wide(wide).T
    if allowed is not None:
        logits = torch.where(allowed, logits, BLOCKED_LOGIT)
    lse = logits.logsumexp(-1)
    logs = logits.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    ids = ids[:, :top].int()
    if vocabulary is not None:
        ids = vocabulary[ids.long()]
    return Predicted(ids, ordered[:, :top].contiguous(), lse, entropy)
