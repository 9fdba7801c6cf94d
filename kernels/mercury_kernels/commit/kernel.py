"""`commit` for the GPU: one program for each sequence ranks its positions pairwise."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.choose.reference import Choices
from mercury_kernels.commit.reference import Policy
from mercury_kernels.launch import Launch, Submit, run

MAX_LENGTH = 4096
"""The longest block: one program holds all positions in registers."""

COMPARED = 2048
"""Pairs of positions that are compared at a time. More would spill registers."""


@triton.jit
def sooner(cost, t, other, o):
    """[T, O]: whether position o comes before t: a lower cost, or the same cost further left."""
    return (other[None, :] < cost[:, None]) | (
        (other[None, :] == cost[:, None]) & (o[None, :] < t[:, None])
    )


@triton.jit(do_not_specialize=["length", "mask_id"])
def commit_block(
    ids, committed, tokens, confidence, entropy, moved, bound, floor, nats, left, length, mask_id,
    KIND: tl.constexpr, BLOCK: tl.constexpr, OTHERS: tl.constexpr,
):  # fmt: skip
    """Commit the leftmost mask and what the policy adds; mask again below the floor.

    Every position is compared with every other one, OTHERS at a time.
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
        # The leftmost mask comes first, since entropies are not negative.
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
        # The leftmost mask comes first, since confidences are at most 1.
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
    # All threads have read above what is overwritten below.
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
    remaining: Tensor,
    submit: Submit = run,
) -> None:
    """See `reference.commit`. Raises TensorMismatch naming a tensor that does not fit."""
    require("ids", ids, [None, None], [torch.int32])
    batch, length = ids.shape
    if length > MAX_LENGTH:
        raise TensorMismatch(f"ids has blocks of {length}; at most {MAX_LENGTH} are possible")
    require("committed", committed, ids.shape, [torch.float32], ids)
    require("choices.tokens", choices.tokens, ids.shape, [torch.int32], ids)
    for name in ("confidence", "entropy"):
        require(f"choices.{name}", getattr(choices, name), ids.shape, [torch.float32], ids)
    counts = policy.kind == "count"
    kind = torch.int32 if counts else torch.float32
    require("policy.bound", policy.bound, [length + 1 if counts else batch], [kind], ids)
    require("policy.floor", policy.floor, [batch], [torch.float32], ids)
    if policy.kind == "klass":
        if choices.kl is None or policy.max_kl is None:
            raise TensorMismatch('choices.kl and policy.max_kl are needed by the kind "klass"')
        require("choices.kl", choices.kl, ids.shape, [torch.float32], ids)
        require("policy.max_kl", policy.max_kl, [batch], [torch.float32], ids)
    require("remaining", remaining, [batch], [torch.int32], ids)
    block = triton.next_power_of_2(length)
    warps = 4 if block <= 256 else 8
    arguments = {
        "ids": ids,
        "committed": committed,
        "tokens": choices.tokens,
        "confidence": choices.confidence,
        "entropy": choices.entropy,
        "moved": choices.kl,
        "bound": policy.bound,
        "floor": policy.floor,
        "nats": policy.max_kl,
        "left": remaining,
        "length": length,
        "mask_id": mask_id,
        "KIND": policy.kind,
        "BLOCK": block,
        "OTHERS": max(1, min(block, COMPARED // block)),
    }
    submit(Launch(commit_block, (batch,), arguments, warps=warps))
