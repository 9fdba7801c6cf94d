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

LONGEST = 4096
"""Positions of a block: its program holds them all in registers."""

COMPARED = 2048
"""How many pairs of positions are compared at a time: with more, registers would spill."""


@triton.jit
def sooner(cost, t, other, o):
    """[T, O]: which others come before each: less costly, or as costly and further left."""
    return (other[None, :] < cost[:, None]) | (
        (other[None, :] == cost[:, None]) & (o[None, :] < t[:, None])
    )


@triton.jit(do_not_specialize=["length", "mask_id"])
def commit_block(
    ids, committed, tokens, confidence, entropy, moved, bound, floor, nats, left, length, mask_id,
    KIND: tl.constexpr, BLOCK: tl.constexpr, OTHERS: tl.constexpr,
):  # fmt: skip
    """Settle the leftmost open position and what the policy adds; open what was settled too soon.

    Positions are compared all with all, OTHERS at a time.
    """
    sequence = tl.program_id(0)
    at = sequence.to(tl.int64) * length
    t = tl.arange(0, BLOCK)
    inside = t < length
    now = tl.load(ids + at + t, mask=inside, other=0)
    opened = inside & (now == mask_id)
    sure = tl.load(confidence + at + t, mask=inside, other=0.0)
    leftmost = tl.min(tl.where(opened, t, BLOCK), 0)
    first = opened & (t == leftmost)
    if KIND == "threshold":
        chosen = opened & (sure >= tl.load(bound + sequence))
    elif KIND == "klass":
        change = tl.load(moved + at + t, mask=inside, other=0.0)
        converged = change < tl.load(nats + sequence)
        chosen = opened & converged & (sure >= tl.load(bound + sequence))
    elif KIND == "entropy":
        unsure = tl.load(entropy + at + t, mask=inside, other=0.0)
        # The leftmost comes before all: entropies are not negative.
        cost = tl.where(first, -1.0, unsure)
        total, largest = unsure, unsure
        for begin in range(0, length, OTHERS):
            o = begin + tl.arange(0, OTHERS)
            stands = tl.load(ids + at + o, mask=o < length, other=0)
            its = tl.load(entropy + at + o, mask=o < length, other=0.0)
            before = sooner(cost, t, tl.where(o == leftmost, -1.0, its), o)
            before = before & ((o < length) & (stands == mask_id))[None, :]
            total += tl.sum(tl.where(before, its[None, :], 0.0), 1)
            largest = tl.maximum(largest, tl.max(tl.where(before, its[None, :], 0.0), 1))
        chosen = opened & (total - largest <= tl.load(bound + sequence))
    else:
        # And here: confidences are at most 1.
        cost = tl.where(first, -2.0, -sure)
        place = tl.zeros((BLOCK,), tl.int32)
        for begin in range(0, length, OTHERS):
            o = begin + tl.arange(0, OTHERS)
            stands = tl.load(ids + at + o, mask=o < length, other=0)
            its = -tl.load(confidence + at + o, mask=o < length, other=0.0)
            before = sooner(cost, t, tl.where(o == leftmost, -2.0, its), o)
            before = before & ((o < length) & (stands == mask_id))[None, :]
            place += tl.sum(before.to(tl.int32), 1)
        chosen = opened & (place < tl.load(bound + tl.sum(opened.to(tl.int32), 0)))
    chosen = chosen | first
    count = tl.sum(chosen.to(tl.int32), 0)
    after = tl.where(chosen, tl.load(tokens + at + t, mask=inside, other=0), now)
    remaining = tl.sum(opened.to(tl.int32), 0) - count
    was = tl.load(committed + at + t, mask=inside, other=0.0)
    doubted = inside & (now != mask_id) & (t > leftmost) & (was < tl.load(floor + sequence))
    after = tl.where(doubted, mask_id, after)
    remaining += tl.sum(doubted.to(tl.int32), 0)
    # What is written here was read above by all threads.
    tl.debug_barrier()
    tl.store(ids + at + t, after, mask=inside)
    tl.store(committed + at + t, tl.where(chosen, sure, was), mask=inside)
    tl.store(left + sequence, remaining)


def commit(
    ids: Tensor,
    committed: Tensor,
    choices: Choices,
    policy: Policy,
    mask_id: int,
    left: Tensor,
    submit: Submit = run,
) -> None:
    """See `reference.commit`. Raises TensorMismatch naming a tensor that does not fit."""
    require("ids", ids, [None, None], [torch.int32])
    batch, length = ids.shape
    if length > LONGEST:
        raise TensorMismatch(f"ids has blocks of {length}; at most {LONGEST} are possible")
    require("committed", committed, ids.shape, [torch.float32], ids)
    require("choices.tokens", choices.tokens, ids.shape, [torch.int32], ids)
    for name in ("confidence", "entropy"):
        require(f"choices.{name}", getattr(choices, name), ids.shape, [torch.float32], ids)
    counts = policy.kind == "count"
    kind = torch.int32 if counts else torch.float32
    require("policy.bound", policy.bound, [length + 1 if counts else batch], [kind], ids)
    require("policy.floor", policy.floor, [batch], [torch.float32], ids)
    if policy.kind == "klass":
        if choices.moved is None or policy.nats is None:
            raise TensorMismatch('choices.moved and policy.nats are needed by the kind "klass"')
        require("choices.moved", choices.moved, ids.shape, [torch.float32], ids)
        require("policy.nats", policy.nats, [batch], [torch.float32], ids)
    require("left", left, [batch], [torch.int32], ids)
    block = triton.next_power_of_2(length)
    warps = 4 if block <= 256 else 8
    arguments = {
        "ids": ids,
        "committed": committed,
        "tokens": choices.tokens,
        "confidence": choices.confidence,
        "entropy": choices.entropy,
        "moved": choices.moved,
        "bound": policy.bound,
        "floor": policy.floor,
        "nats": policy.nats,
        "left": left,
        "length": length,
        "mask_id": mask_id,
        "KIND": policy.kind,
        "BLOCK": block,
        "OTHERS": max(1, min(block, COMPARED // block)),
    }
    submit(Launch(commit_block, (batch,), arguments, warps))
