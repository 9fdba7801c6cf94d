"""`commit` for the GPU: one program a sequence, its positions ranked against each other."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.choose.reference import Choices
from mercury_kernels.commit.reference import Policy
from mercury_kernels.launch import Launch, Submit, run

LONGEST = 128
"""Positions of a block: they are compared all with all, in registers."""


@triton.jit
def rank_of(marked, cost, t):
    """How many marked positions come before each: less costly, or as costly and further left."""
    sooner = (cost[None, :] < cost[:, None]) | (
        (cost[None, :] == cost[:, None]) & (t[None, :] < t[:, None])
    )
    return tl.sum((sooner & marked[None, :]).to(tl.int32), 1)


@triton.jit(do_not_specialize=["length", "mask_id"])
def commit_block(
    ids, tokens, confidence, entropy, kept, bound, floor, left, length, mask_id,
    KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Settle the leftmost open position and what the policy adds; open again what is doubted."""
    sequence = tl.program_id(0)
    t = tl.arange(0, BLOCK)
    inside = t < length
    at = sequence.to(tl.int64) * length + t
    now = tl.load(ids + at, mask=inside, other=0)
    opened = inside & (now == mask_id)
    sure = tl.load(confidence + at, mask=inside, other=0.0)
    first = opened & (t == tl.min(tl.where(opened, t, BLOCK), 0))
    if KIND == "threshold":
        chosen = opened & (sure >= tl.load(bound + sequence))
    elif KIND == "entropy":
        nats = tl.load(entropy + at, mask=inside, other=0.0)
        # The leftmost comes before all: entropies are not negative.
        place = rank_of(opened, tl.where(first, -1.0, nats), t)
        sooner = opened[None, :] & (place[None, :] <= place[:, None])
        total = tl.sum(tl.where(sooner, nats[None, :], 0.0), 1)
        largest = tl.max(tl.where(sooner, nats[None, :], 0.0), 1)
        chosen = opened & (total - largest <= tl.load(bound + sequence))
    else:
        # And here: confidences are at most 1.
        place = rank_of(opened, tl.where(first, -2.0, -sure), t)
        chosen = opened & (place < tl.load(bound + tl.sum(opened.to(tl.int32), 0)))
    chosen = chosen | first
    count = tl.sum(chosen.to(tl.int32), 0)
    after = tl.where(chosen, tl.load(tokens + at, mask=inside, other=0), now)
    remaining = tl.sum(opened.to(tl.int32), 0) - count
    if floor is not None:
        held = tl.load(kept + at, mask=inside, other=1.0)
        doubted = inside & (now != mask_id) & (held < tl.load(floor + sequence))
        doubted = doubted & (rank_of(doubted, held, t) < count - 1)
        after = tl.where(doubted, mask_id, after)
        remaining += tl.sum(doubted.to(tl.int32), 0)
    tl.store(ids + at, after, mask=inside)
    tl.store(left + sequence, remaining)


def commit(
    ids: Tensor,
    choices: Choices,
    policy: Policy,
    mask_id: int,
    floor: Tensor | None,
    left: Tensor,
    submit: Submit = run,
) -> None:
    """See `reference.commit`. Raises TensorMismatch naming a tensor that does not fit."""
    require("ids", ids, [None, None], [torch.int32])
    batch, length = ids.shape
    if length > LONGEST:
        raise TensorMismatch(f"ids has blocks of {length}; at most {LONGEST} are compared")
    require("choices.tokens", choices.tokens, ids.shape, [torch.int32], ids)
    for name in ("confidence", "entropy", "kept"):
        require(f"choices.{name}", getattr(choices, name), ids.shape, [torch.float32], ids)
    counts = policy.kind == "count"
    kind = torch.int32 if counts else torch.float32
    require("policy.bound", policy.bound, [length + 1 if counts else batch], [kind], ids)
    if floor is not None:
        require("floor", floor, [batch], [torch.float32], ids)
    require("left", left, [batch], [torch.int32], ids)
    arguments = {
        "ids": ids,
        "tokens": choices.tokens,
        "confidence": choices.confidence,
        "entropy": choices.entropy,
        "kept": choices.kept,
        "bound": policy.bound,
        "floor": floor,
        "left": left,
        "length": length,
        "mask_id": mask_id,
        "KIND": policy.kind,
        "BLOCK": triton.next_power_of_2(length),
    }
    submit(Launch(commit_block, (batch,), arguments, warps=4))
