"""The reference of `commit`; `mercury_model.decoding.unmasking` is its counterpart on the host."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mercury_kernels.choose.reference import Choices

Kind = Literal["threshold", "klass", "entropy", "count"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which open positions to settle, of which the leftmost always is, and which to open again.

    "threshold": those of confidence ≥ `bound` [B] fp32. "klass": of these, those that moved by
    less than `nats` [B] fp32 since the step before; other kinds have None there. "entropy": the
    surest first, while the sum of their entropies less the largest is ≤ `bound` [B] fp32 nats.
    "count": the `bound[n]` surest where n positions are open, `bound` [T + 1] int32, which is a
    number or, read off a schedule, a pace.

    Right of the leftmost open position, what was settled with less confidence than `floor` [B] fp32
    is opened again; 0 opens nothing.
    """

    kind: Kind
    bound: Tensor
    floor: Tensor
    nats: Tensor | None = None


def commit(
    ids: Tensor,
    committed: Tensor,
    choices: Choices,
    policy: Policy,
    mask_id: int,
    left: Tensor,
) -> None:
    """Settle what the policy chooses; open again what was settled with too little confidence.

    `ids` [B, T] int32 is changed in place: a position is open where it is `mask_id`. So is
    `committed` [B, T] fp32, the confidence with which each was settled. Writes `left` [B] int32,
    how many positions are open now. "klass" is the kind that needs `choices.moved`.
    """
    opened = ids == mask_id
    for b in range(len(ids)):
        chosen = _chosen(b, opened[b], choices, policy)
        doubted = ~opened[b] & (committed[b] < policy.floor[b]) & (opened[b].cumsum(0) > 0)
        ids[b] = torch.where(chosen, choices.tokens[b], ids[b]).masked_fill(doubted, mask_id)
        committed[b] = torch.where(chosen, choices.confidence[b].to(committed.dtype), committed[b])
        left[b] = opened[b].sum() - chosen.sum() + doubted.sum()


def _chosen(b: int, opened: Tensor, choices: Choices, policy: Policy) -> Tensor:
    cost = choices.entropy[b] if policy.kind == "entropy" else -choices.confidence[b]
    first = _ordered(opened, torch.zeros_like(cost))[:1]
    others = opened.clone()
    others[first] = False
    order = torch.cat([first, _ordered(others, cost)])  # the leftmost, then the surest
    if policy.kind == "threshold":
        picked = order[choices.confidence[b][order] >= policy.bound[b]]
    elif policy.kind == "klass":
        assert choices.moved is not None
        assert policy.nats is not None
        converged = choices.moved[b] < policy.nats[b]
        picked = order[(converged & (choices.confidence[b] >= policy.bound[b]))[order]]
    elif policy.kind == "entropy":
        entropy = choices.entropy[b][order]
        lost = entropy.cumsum(0) - (entropy.cummax(0)[0] if len(order) else entropy)
        picked = order[lost <= policy.bound[b]]
    else:
        picked = order[: int(policy.bound[len(order)])]
    chosen = torch.zeros_like(opened)
    chosen[picked] = True
    chosen[first] = True
    return chosen


def _ordered(where: Tensor, cost: Tensor) -> Tensor:
    """The marked positions by cost, ties from the left."""
    marked = where.nonzero()[:, 0]
    return marked[cost[marked].sort(stable=True)[1]]
