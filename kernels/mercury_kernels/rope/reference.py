"""The reference of `rotate_and_cache` in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.paged import PagedKVCache


@dataclass(frozen=True, slots=True)
class QkvEpilogue:
    """The epilogue of the QKV product: a `bias` [C] (Qwen2), per-head norms [D] (Qwen3)."""

    bias: Tensor | None = None
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None
    eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Rotation:
    """The tables `cos` and `sin` [L, D/2] fp32 by position, with any scaling applied."""

    cos: Tensor
    sin: Tensor


def rotate_and_cache(  # noqa: PLR0913  one kernel reads and writes all of these
    parts: Tensor,
    epilogue: QkvEpilogue,
    rotation: Rotation,
    start: Tensor,
    visible: Tensor,
    q: Tensor,
    cache: PagedKVCache,
) -> None:
    """(x₁, x₂) ↦ (x₁ cos − x₂ sin, x₂ cos + x₁ sin) over the halves of each query and key head.

    `parts` [S, B · T, C] are partial sums of the QKV product, with C = (H_q + 2 H_kv) · D: heads of
    queries, then keys, then values. `epilogue` comes before the rotation. Token t of sequence b has
    position `start[b] + t`; `start` [B] int32. Writes `q` [B, T, H_q, D], and keys and values to
    `cache` at these positions. Positions past its capacity are not written, nor is padding, where
    `visible` [B, T] int32 is 0: the text of a canvas after the block stays unchanged.
    """
    batch, tokens, heads, width = q.shape
    wide = torch.promote_types(parts.dtype, torch.float32)
    x = parts.to(wide).sum(0)
    if epilogue.bias is not None:
        x = x + epilogue.bias.to(wide)
    x = x.view(batch, tokens, -1, width)
    num_kv_heads = (x.shape[2] - heads) // 2
    queries, keys = x[:, :, :heads], x[:, :, heads : heads + num_kv_heads]
    values = x[:, :, heads + num_kv_heads :]
    if epilogue.q_norm is not None and epilogue.k_norm is not None:
        queries = _normalised(queries, epilogue.q_norm, epilogue.eps)
        keys = _normalised(keys, epilogue.k_norm, epilogue.eps)
    for b in range(batch):
        positions = start[b].long() + torch.arange(tokens, device=q.device)
        q[b] = _rotated(queries[b], rotation, positions).to(q.dtype)
        fits = (positions < cache.capacity) & (visible[b] > 0)
        rotated = _rotated(keys[b], rotation, positions)
        cache.write(b, positions[fits], rotated[fits], values[b][fits])


def _normalised(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.to(x.dtype)


def _rotated(x: Tensor, rotation: Rotation, positions: Tensor) -> Tensor:
    at = positions.clamp_max(rotation.cos.shape[0] - 1)
    cos, sin = (table[at].to(x.dtype)[:, None] for table in (rotation.cos, rotation.sin))
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
