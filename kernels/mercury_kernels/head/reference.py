"""The reference of `predict` in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.weights import Rows, Weight, accumulator_dtype, dequantize_rows

BLOCKED_LOGIT = -1e30
"""The logit of a token that a row may not give. It is finite, so that the entropy is a number."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """The K likeliest tokens of each row, with the log-sum-exp and entropy of its logits l.

    `ids` [M, K] int32, likeliest first; ties go to the lower id. `logits` [M, K] fp32. `lse` [M] =
    log Σ_v e^l_v, so that p = e^(l − lse). `entropy` [M] = −Σ_v p_v log p_v, in nats.
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
    """The `top` likeliest tokens, log-sum-exp and entropy of the logits l = x · wᵀ.

    `x` [M, K] are hidden states after the last norm; `weight` [V, K]. `vocabulary` [V] int32,
    ascending, is the token id of each row of the weight; None means its index. `allowed` [M, V]
    bool restricts each row to the tokens that are True: the logits of the others are BLOCKED_LOGIT,
    and their probabilities 0.
    """
    dtype = accumulator_dtype(x)
    logits = dequantize_rows(x, dtype) @ weight.dequantize(dtype).T
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
