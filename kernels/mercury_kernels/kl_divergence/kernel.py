"""`kl_divergence` for the GPU: one program for each position compares candidates pairwise."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.head.reference import Predicted
from mercury_kernels.kl_divergence.reference import PreviousPredictions
from mercury_kernels.launch import Launch, Submit, run

LEAST = tl.constexpr(torch.finfo(torch.float32).tiny)
"""The lower bound of a probability, so that the logarithm of a quotient is finite."""


@triton.jit
def others(chances):
    """The probability of all other tokens."""
    return tl.maximum(1.0 - tl.sum(chances, 0), LEAST)


@triton.jit(do_not_specialize=["length", "shift"])
def kl_divergence_position(
    candidates, logits, lse, were, known, nats, length, shift,
    TOP: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """nats = Σ_k p_k log(p_k / q_k) + (1 − Σ p) log((1 − Σ p) / (1 − Σ q)), k < TOP; then q ← p.

    In fp64, since the probability of all other tokens is a difference of numbers near one.
    """
    place = tl.program_id(0)
    if place % length < shift:
        tl.store(nats + place, float("inf"))
    else:
        row, at = (place - shift).to(tl.int64) * TOP, place.to(tl.int64) * TOP
        k = tl.arange(0, WIDTH)
        inside = k < TOP
        token = tl.load(candidates + row + k, mask=inside, other=0)
        logit = tl.load(logits + row + k, mask=inside, other=-float("inf"))
        chance = tl.exp(logit - tl.load(lse + place - shift))
        first = tl.load(were + at)
        it = tl.load(were + at + k, mask=inside, other=-2)
        its = tl.load(known + at + k, mask=inside, other=0.0)
        least = tl.load(known + at + TOP - 1)
        same = token[:, None] == it[None, :]
        found = tl.sum(tl.where(same, its[None, :], 0.0), 1)
        found = tl.where(tl.sum(same.to(tl.int32), 1) > 0, found, least)
        p = chance.to(tl.float64)
        q = tl.where(inside, found, 0.0).to(tl.float64)
        q = tl.minimum(q, 1.0) / tl.maximum(tl.sum(q, 0), 1.0)
        p_rest, q_rest = others(p), others(q)
        rest = p_rest * tl.log(p_rest / q_rest)
        p, q = tl.maximum(p, LEAST), tl.maximum(q, LEAST)
        total = tl.maximum(tl.sum(p * tl.log(p / q), 0) + rest, 0.0)
        tl.store(nats + place, tl.where(first < 0, float("inf"), total.to(tl.float32)))
        # All threads have read above what is overwritten below.
        tl.debug_barrier()
        tl.store(were + at + k, token, mask=inside)
        tl.store(known + at + k, chance, mask=inside)


def kl_divergence(
    predicted: Predicted, previous: PreviousPredictions, shift: int, submit: Submit = run
) -> Tensor:
    """See `reference.kl_divergence`. Raises TensorMismatch naming a tensor that does not fit."""
    require("previous.ids", previous.ids, [None, None, None], [torch.int32])
    batch, length, top = previous.ids.shape
    rows = batch * length
    require("previous.probs", previous.probs, previous.ids.shape, [torch.float32], previous.ids)
    require("predicted.ids", predicted.ids, [rows, top], [torch.int32], previous.ids)
    require("predicted.logits", predicted.logits, [rows, top], [torch.float32], previous.ids)
    require("predicted.lse", predicted.lse, [rows], [torch.float32], previous.ids)
    if not 0 <= shift <= length:
        raise TensorMismatch(
            f"previous.ids has blocks of {length}, they cannot be shifted by {shift}"
        )
    nats = torch.empty(batch, length, dtype=torch.float32, device=previous.ids.device)
    arguments = {
        "candidates": predicted.ids,
        "logits": predicted.logits,
        "lse": predicted.lse,
        "were": previous.ids,
        "known": previous.probs,
        "nats": nats,
        "length": length,
        "shift": shift,
        "TOP": top,
        "WIDTH": triton.next_power_of_2(top),
    }
    submit(Launch(kl_divergence_position, (rows,), arguments, warps=1))
    return nats
