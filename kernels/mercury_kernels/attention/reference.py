"""What `attend` means, in plain torch."""

import torch
from torch import Tensor

from mercury_kernels.paged import Paged


def attend(q: Tensor, visible: Tensor, cache: Paged) -> Tensor:
    """o[b, t] = Σ_j softmax_j(q[b, t] · k[b, j] / √D) v[b, j] over the first visible[b, t] keys.

    `q` [B, T, H_q, D]; query head h reads key head h // (H_q / H_kv). `visible` [B, T] int32 says
    all there is to say about who sees what: a block that sees its context and, both ways, itself
    has start + T throughout; a causal chunk start + t + 1; a canvas with text after the block
    counts that text too; a row of padding has 0, and its output is 0. Returns [B, T, H_q, D].
    """
    batch, _, heads, width = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.zeros_like(q)
    for b in range(batch):
        length = int(visible[b].max())
        positions = torch.arange(length, device=q.device)
        page, slot = cache.slots(b, positions)
        group = heads // cache.keys.shape[2]
        keys, values = (
            held[page, slot].to(wide).repeat_interleave(group, 1)  # [L, H_q, D]
            for held in (cache.keys, cache.values)
        )
        scores = torch.einsum("thd,lhd->htl", q[b].to(wide), keys) / width**0.5
        hidden = positions >= visible[b][:, None]  # [T, L]
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num(0.0)
        out[b] = torch.einsum("htl,lhd->thd", weights, values).to(q.dtype)
    return out
