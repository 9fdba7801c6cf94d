"""The reference of `kl_divergence`; `mercury_model.decoding.sampler` computes it on the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.head.reference import Predicted

NO_PREDICTION = -1
"""The id where no step has predicted anything."""


@dataclass(frozen=True, slots=True)
class PreviousPredictions:
    """The predictions of the previous step for each position of a block.

    `ids` [B, T, K] int32, likeliest first, NO_PREDICTION before the first step; `probs` [B, T, K]
    fp32, their probabilities.
    """

    ids: Tensor
    probs: Tensor

    @classmethod
    def empty(cls, shape: tuple[int, int, int], device: torch.device) -> "PreviousPredictions":
        """Tensors of `shape` (B, T, K) before the first step."""
        ids = torch.full(shape, NO_PREDICTION, dtype=torch.int32, device=device)
        return cls(ids, torch.zeros(shape, dtype=torch.float32, device=device))

    def clone(self) -> "PreviousPredictions":
        """A copy with its own memory."""
        return PreviousPredictions(self.ids.clone(), self.probs.clone())

    def copy_from(self, other: "PreviousPredictions") -> None:
        """Overwrite these tensors with those of `other`."""
        self.ids.copy_(other.ids)
        self.probs.copy_(other.probs)

    def reset(self) -> None:
        """Mark every block as one before its first step."""
        self.ids.fill_(NO_PREDICTION)


def kl_divergence(predicted: Predicted, previous: PreviousPredictions, shift: int) -> Tensor:
    """nats[b, t] = Σ_k p_k log(p_k / q_k), with p the current and q the previous prediction.

    `predicted` has B · T rows; row t of a block predicts position t + `shift`. The sum is over the
    K current candidates and, as one outcome, all other tokens. A candidate that `previous` does not
    have counts as likely as the least likely one there. The result is infinite for the first
    `shift` positions and before the first step. Then `previous` is overwritten with `predicted`.
    """
    batch, length, top = previous.ids.shape
    shifted = slice(0, length - shift)
    ids = predicted.ids.view(batch, length, top)[:, shifted]
    logits = predicted.logits.view(batch, length, top)[:, shifted]
    chances = (logits - predicted.lse.view(batch, length, 1)[:, shifted]).exp()
    were, known = previous.ids[:, shift:], previous.probs[:, shift:]
    nats = chances.new_full((batch, length), torch.inf)
    nats[:, shift:] = torch.where(
        were[..., 0] == NO_PREDICTION, torch.inf, _divergence(ids, chances, were, known)
    )
    were.copy_(ids)
    known.copy_(chances)
    return nats


def _divergence(ids: Tensor, chances: Tensor, were: Tensor, known: Tensor) -> Tensor:
    """In fp64, since the probability of all other tokens is a difference of numbers near one."""
    p, known = chances.double(), known.double()
    same = ids[..., :, None] == were[..., None, :]
    q = torch.where(same.any(-1), (same * known[..., None, :]).sum(-1), known[..., -1:])
    q = q.clamp_max(1) / q.sum(-1, keepdim=True).clamp_min(1)
    least = torch.finfo(torch.float32).tiny
    p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1).clamp_min(least) for x in (p, q))
    return (p * (p / q).log()).sum(-1).clamp_min(0).to(chances.dtype)
