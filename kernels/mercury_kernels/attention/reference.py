"""The reference of `attend` in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.check import require
from mercury_kernels.paged import PagedKVCache


@dataclass(frozen=True, slots=True)
class CausalTokens:
    """Makes the tokens of a block causal, as in the autoregressive network.

    `ids` [B, T] int32 are the ids of the block, where masks are `mask_id`; `start` [B] int32 is its
    position. A token attends to the context and to the tokens of the block up to itself, and to no
    masks. A mask attends to everything visible.
    """

    ids: Tensor
    mask_id: int
    start: Tensor

    def hidden(self, sequence: int, positions: Tensor) -> Tensor:
        """[T, L] bool: the positions that each row of a sequence must not attend to."""
        masked = self.ids[sequence] == self.mask_id
        places = positions - self.start[sequence]
        own = places.clamp(0, len(masked) - 1)
        inside = (places >= 0) & (places < len(masked))
        later = places > torch.arange(len(masked), device=places.device)[:, None]
        return ~masked[:, None] & (later | (inside & masked[own]))

    def require(self, q: Tensor) -> None:
        """Raise TensorMismatch unless the shapes are those of the blocks of q [B, T, H, D]."""
        require("causal_tokens.ids", self.ids, q.shape[:2], [torch.int32], q)
        require("causal_tokens.start", self.start, q.shape[:1], [torch.int32], q)


def attend(
    q: Tensor, visible: Tensor, cache: PagedKVCache, causal_tokens: CausalTokens | None = None
) -> Tensor:
    """o[b, t] = Σ_j softmax_j(q[b, t] · k[b, j] / √D) v[b, j] over the first visible[b, t] keys.

    `q` [B, T, H_q, D]; query head h reads key head h // (H_q / H_kv). `visible` [B, T] int32
    is the number of keys that a row attends to: start + T for a bidirectional block, start + t + 1
    for a causal chunk, more for a canvas with text after the block, 0 for padding, whose output is
    0. `causal_tokens` hides some of these keys from the tokens of a block. Returns [B, T, H_q, D].
    """
    batch, _, heads, width = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.zeros_like(q)
    for b in range(batch):
        length = int(visible[b].max())
        positions = torch.arange(length, device=q.device)
        group = heads // cache.keys.shape[2]
        keys, values = (
            tensor.repeat_interleave(group, 1)  # [L, H_q, D]
            for tensor in cache.read(b, positions, wide)
        )
        scores = torch.einsum("thd,lhd->htl", q[b].to(wide), keys) / width**0.5
        hidden = positions >= visible[b][:, None]  # [T, L]
        if causal_tokens is not None:
            hidden |= causal_tokens.hidden(b, positions)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num(0.0)
        out[b] = torch.einsum("htl,lhd->thd", weights, values).to(q.dtype)
    return out
