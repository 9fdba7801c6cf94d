"""The reference of `commit`; `mercury_model.decoding.unmasking` is its counterpart on the host."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mercury_kernels.choose.reference import Choices

Kind = Literal["threshold", "klass", "entropy", "count"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which masked positions to commit, and which committed positions to mask again.

    The leftmost masked position is always committed. The others depend on the kind. "threshold":
    those of confidence ≥ `bound` [B] fp32. "klass": those of them whose prediction diverged by less
    than `max_kl` [B] fp32 nats from the step before (KLASS); other kinds have None there.
    "entropy": in order of entropy, as long as the sum of the entropies less the largest is ≤
    `bound` [B] fp32 nats (EB-Sampler). "count": the `bound[n]` most confident of n masked
    positions; `bound` [T + 1] int32 is a constant or follows a schedule.

    A position right of the leftmost mask is masked again if it was committed with less confidence
    than `floor` [B] fp32; a floor of 0 masks nothing.
    """

    kind: Kind
    bound: Tensor
    floor: Tensor
    max_kl: Tensor | None = None


def commit(
    ids: Tensor,
    committed: Tensor,
    choices: Choices,
    policy: Policy,
    mask_id: int,
    remaining: Tensor,
) -> None:
    """Commit what the policy chooses; mask again what was committed with too little confidence.

    Changes `ids` [B, T] int32, where masks are `mask_id`, and `committed` [B, T] fp32, the
    confidence that each position was committed with, in place. Writes `remaining` [B] int32, the
    number of masks after that. The kind "klass" needs `choices.kl`.
    """
    masked = ids == mask_id
    for b in range(len(ids)):
        chosen = _chosen(b, masked[b], choices, policy)
        doubted = ~masked[b] & (committed[b] < policy.floor[b]) & (masked[b].cumsum(0) > 0)
        ids[b] = torch.where(chosen, choices.tokens[b], ids[b]).masked_fill(doubted, mask_id)
        committed[b] = torch.where(chosen, choices.confidence[b].to(committed.dtype), committed[b])
        remaining[b] = masked[b].sum() - chosen.sum() + doubted.sum()


def _chosen(b: int, masked: Tensor, choices: Choices, policy: Policy) -> Tensor:
    cost = choices.entropy[b] if policy.kind == "entropy" else -choices.confidence[b]
    first = _ordered(masked, torch.zeros_like(cost))[:1]
    others = masked.clone()
    others[first] = False
    order = torch.cat([first, _ordered(others, cost)])  # the leftmost, then the most confident
    if policy.kind == "threshold":
        picked = order[choices.confidence[b][order] >= policy.bound[b]]
    elif policy.kind == "klass":
        assert choices.kl is not None
        assert policy.max_kl is not None
        converged = choices.kl[b] < policy.max_kl[b]
        picked = order[(converged & (choices.confidence[b] >= policy.bound[b]))[order]]
    elif policy.kind == "entropy":
        entropy = choices.entropy[b][order]
        lost = entropy.cumsum(0) - (entropy.cummax(0)[0] if len(order) else entropy)
        picked = order[lost <= policy.bound[b]]
    else:
        picked = order[: int(policy.bound[len(order)])]
    chosen = torch.zeros_like(masked)
    chosen[picked] = True
    chosen[first] = True
    return chosen


def _ordered(where: Tensor, cost: Tensor) -> Tensor:
    """The positions that `where` marks, in order of cost; ties go to the left."""
    marked = where.nonzero()[:, 0]
    return marked[cost[marked].sort(stable=True)[1]]
