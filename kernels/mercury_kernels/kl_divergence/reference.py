"""The reference of `kl_divergence`; `mercury_model.decoding.sampler` has the one of the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.head.reference import Predicted

NO_PREDICTION = -1
"""Stands for an id where nothing was predicted."""


@dataclass(frozen=True, slots=True)
class PreviousPredictions:
    """What a step predicted for each position of a block, for the next to be compared with.

    `ids` [B, T, K] int32, likeliest first, NOTHING where no step was; `chances` [B, T, K] fp32 are
    their probabilities.
    """

    ids: Tensor
    chances: Tensor

    @classmethod
    def nothing(cls, shape: tuple[int, int, int], device: torch.device) -> "PreviousPredictions":
        """Room for K candidates of T positions in B blocks; there was no step."""
        ids = torch.full(shape, NO_PREDICTION, dtype=torch.int32, device=device)
        return cls(ids, torch.zeros(shape, dtype=torch.float32, device=device))

    def copy(self) -> "PreviousPredictions":
        """The same in memory of its own."""
        return PreviousPredictions(self.ids.clone(), self.chances.clone())

    def put(self, other: "PreviousPredictions") -> None:
        """Take over what is in `other`."""
        self.ids.copy_(other.ids)
        self.chances.copy_(other.chances)

    def forget(self) -> None:
        """Begin anew: there was no step for any block."""
        self.ids.fill_(NO_PREDICTION)


def kl_divergence(predicted: Predicted, before: PreviousPredictions, shift: int) -> Tensor:
    """nats[b, t] = Σ_k p_k log(p_k / q_k), p of now and q of `before`; infinite where none was.

    `predicted` has B · T rows, row t of a block for position t + `shift`; the first `shift`
    positions have no prediction, and infinity. The sum is over the K candidates of now and, as one,
    all other tokens. What was no candidate before is taken to have been as likely as the least of
    those that were. Then `before`, changed in place, holds what is predicted now.
    """
    batch, length, top = before.ids.shape
    given = slice(0, length - shift)
    ids = predicted.ids.view(batch, length, top)[:, given]
    logits = predicted.logits.view(batch, length, top)[:, given]
    chances = (logits - predicted.lse.view(batch, length, 1)[:, given]).exp()
    were, known = before.ids[:, shift:], before.chances[:, shift:]
    nats = chances.new_full((batch, length), torch.inf)
    nats[:, shift:] = torch.where(
        were[..., 0] == NO_PREDICTION, torch.inf, _divergence(ids, chances, were, known)
    )
    were.copy_(ids)
    known.copy_(chances)
    return nats


def _divergence(ids: Tensor, chances: Tensor, were: Tensor, known: Tensor) -> Tensor:
    """In fp64: what is left to all other tokens is the difference of numbers near one."""
    p, known = chances.double(), known.double()
    same = ids[..., :, None] == were[..., None, :]
    q = torch.where(same.any(-1), (same * known[..., None, :]).sum(-1), known[..., -1:])
    q = q.clamp_max(1) / q.sum(-1, keepdim=True).clamp_min(1)
    least = torch.finfo(torch.float32).tiny
    p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1).clamp_min(least) for x in (p, q))
    return (p * (p / q).log()).sum(-1).clamp_min(0).to(chances.dtype)
