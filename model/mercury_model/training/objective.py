"""What training minimises, and what it reports.

Clean rows: cross-entropy to the next token. Mask rows: cross-entropy to the true token mixed with
cross-entropy to what the network's own clean rows expect at the same place, in the same pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from mercury_model.training.collate import Packed

HEAD_ROWS = 192
TEACHER_TOP = 12


@dataclass(frozen=True, slots=True)
class Head:
    """What the head expects at R rows: the likeliest ids [R, K], their probabilities, and the
    log-probability [R] of the target.
    """

    ids: Tensor
    probs: Tensor
    target_logprob: Tensor


class SparseCrossEntropy(Function):
    """Sum over rows of `Σ_k w_k · (−log softmax(h Eᵀ)[id_k])`, without keeping the logits.

    h [R, D] has the gradient; E [V, D] is frozen; ids and w [R, K]. The gradient is formed in the
    forward pass (as in Liger-Kernel's fused linear cross-entropy), HEAD_ROWS rows at a time.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, embedding: Tensor, ids: Tensor, w: Tensor, out: list[Head]
    ) -> Tensor:
        """The loss, a scalar; the expectations of each chunk of rows are appended to `out`."""
        loss = h.new_zeros((), dtype=torch.float32)
        grad = torch.empty_like(h)
        for start in range(0, len(h), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            logits = (h[rows] @ embedding.t()).float()
            picked = logits.gather(1, ids[rows])
            top = logits.topk(TEACHER_TOP, -1)
            norm = torch.logsumexp(logits, -1, keepdim=True)
            logprob = picked - norm
            loss -= (w[rows] * logprob).sum()
            p = logits.sub_(norm).exp_().mul_(w[rows].sum(-1, keepdim=True))
            p.scatter_add_(1, ids[rows], -w[rows])
            grad[rows] = p.to(h.dtype) @ embedding
            out.append(Head(top.indices, (top.values - norm).exp(), logprob[:, 0]))
        ctx.save_for_backward(grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The gradient of the rows, scaled."""
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None, None, None


def cross_entropy(
    h: Tensor, embedding: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Head]:
    """Weighted cross-entropy to `targets` [R], summed, and the head's expectations."""
    return _sparse(h, embedding, targets[:, None], weights[:, None])


def distillation_loss(
    h: Tensor, embedding: Tensor, packed: Packed, clean: Head, truth_share: float
) -> tuple[Tensor, Head]:
    """Weighted cross-entropy of mask rows h [M, D] to truth and teacher, and the expectations.

    The loss is a sum. The truth counts `truth_share`, and alone where no row of `clean` is the
    teacher. The teacher's distribution is cut to its likeliest ids and made to sum to one again.
    """
    teacher = packed.teacher
    known = (teacher >= 0).float()[:, None]
    soft_ids = clean.ids[teacher.clamp(min=0)]
    soft = clean.probs[teacher.clamp(min=0)]
    soft = soft / soft.sum(-1, keepdim=True) * known * (1 - truth_share)
    hard = 1 - soft.sum(-1, keepdim=True)
    ids = torch.cat([packed.mask_targets[:, None], soft_ids], 1)
    w = torch.cat([hard, soft], 1) * packed.mask_weights[:, None]
    return _sparse(h, embedding, ids, w)


def _sparse(h: Tensor, embedding: Tensor, ids: Tensor, w: Tensor) -> tuple[Tensor, Head]:
    parts: list[Head] = []
    loss: Tensor = SparseCrossEntropy.apply(h, embedding, ids, w, parts)  # type: ignore[no-untyped-call]
    whole = Head(
        torch.cat([p.ids for p in parts]),
        torch.cat([p.probs for p in parts]),
        torch.cat([p.target_logprob for p in parts]),
    )
    return loss, whole
