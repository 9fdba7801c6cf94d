"""What `attend` means, in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.check import require
from mercury_kernels.paged import Paged


@dataclass(frozen=True, slots=True)
class Apart:
    """Keeps the masks of a block from its tokens, which are then the autoregressive network's.

    `ids` [B, T] int32 are those of the block, masks are `mask_id`; it begins at position `start`
    [B] int32. A token sees what is before the block and, within it, the tokens up to itself; a mask
    sees all there is.
    """

    ids: Tensor
    mask_id: int
    start: Tensor

    def hidden(self, sequence: int, positions: Tensor) -> Tensor:
        """[T, L]: which of these positions each row of a sequence must not see."""
        masked = self.ids[sequence] == self.mask_id
        places = positions - self.start[sequence]
        own = places.clamp(0, len(masked) - 1)
        inside = (places >= 0) & (places < len(masked))
        later = places > torch.arange(len(masked), device=places.device)[:, None]
        return ~masked[:, None] & (later | (inside & masked[own]))

    def require(self, q: Tensor) -> None:
        """Raise TensorMismatch unless this is of the blocks that q [B, T, H, D] is of."""
        require("apart.ids", self.ids, q.shape[:2], [torch.int32], q)
        require("apart.start", self.start, q.shape[:1], [torch.int32], q)


def attend(q: Tensor, visible: Tensor, cache: Paged, apart: Apart | None = None) -> Tensor:
    """o[b, t] = Σ_j softmax_j(q[b, t] · k[b, j] / √D) v[b, j] over the first visible[b, t] keys.

    `q` [B, T, H_q, D]; query head h reads key head h // (H_q / H_kv). `visible` [B, T] int32 says
    all there is to say about who sees what: a block that sees its context and, both ways, itself
    has start + T throughout; a causal chunk start + t + 1; a canvas with text after the block
    counts that text too; a row of padding has 0, and its output is 0. `apart` hides some of these
    keys from the tokens of a block. Returns [B, T, H_q, D].
    """
    batch, _, heads, width = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.zeros_like(q)
    for b in range(batch):
        length = int(visible[b].max())
        positions = torch.arange(length, device=q.device)
        group = heads // cache.keys.shape[2]
        keys, values = (
            kept.repeat_interleave(group, 1)  # [L, H_q, D]
            for kept in cache.read(b, positions, wide)
        )
        scores = torch.einsum("thd,lhd->htl", q[b].to(wide), keys) / width**0.5
        hidden = positions >= visible[b][:, None]  # [T, L]
        if apart is not None:
            hidden |= apart.hidden(b, positions)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num(0.0)
        out[b] = torch.einsum("htl,lhd->thd", weights, values).to(q.dtype)
    return out
