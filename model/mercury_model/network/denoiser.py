"""The denoiser: a Llama-shaped network in torch, one flat file.

SmolLM2, Llama and LLaDA as they are; `ModelConfig.qkv_bias` makes it Qwen2 and Dream,
`ModelConfig.qk_norm` Qwen3. Which rows see which is the caller's: causal for a context, both ways
for a block of masks, two streams in training. Knows no ids beyond the mask's, no text, no policy.

Shapes: B sequences, T rows, S keys, D width, H heads, G key-value heads, W head width,
V vocabulary.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mercury_model.spec.model_config import ModelConfig


class KVStore(Protocol):
    """Where keys and values of earlier rows are, and where those of new rows go."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put new rows [B, G, T, W] behind those of `layer`; returns all rows [B, G, S, W]."""


class GatedLinear(nn.Linear):
    """y = W x + bias, and where `gate` is 1, + mask_b (mask_a x).

    The gated part is an adapter that acts at masked rows alone and leaves the autoregressive path
    untouched (Samragh et al. 2025, arXiv:2507.11851). It exists only if `rank` is not 0.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.mask_a = nn.Parameter(torch.zeros(rank, inputs)) if rank else None
        self.mask_b = nn.Parameter(torch.zeros(outputs, rank)) if rank else None

    def at(self, x: Tensor, gate: Tensor | None) -> Tensor:
        """`x` [B, T, in], `gate` [B, T, 1] or None → [B, T, out]."""
        y = F.linear(x, self.weight, self.bias)
        if gate is None or self.mask_a is None or self.mask_b is None:
            return y
        return y + gate * F.linear(F.linear(x, self.mask_a), self.mask_b)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) · weight, in fp32 (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., width] → the same shape and type."""
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x32.to(x.dtype)


def rotary_tables(
    positions: Tensor, config: ModelConfig, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, T, W] of rotary embeddings (Su et al. 2021, arXiv:2104.09864)."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = config.rope_theta ** -(half / config.head_dim)
    angles = positions[:, None, :, None].float() * frequencies
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn `x` [B, H, T, W] by its positions; the two halves of W are the pairs."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


class Layer(nn.Module):
    """Attention, then a gated MLP, each on a normed copy and added back."""

    def __init__(self, config: ModelConfig, index: int, mask_rank: int) -> None:
        super().__init__()
        self.index = index
        self.config = config

        def linear(part: str) -> GatedLinear:
            outputs, inputs = config.projections[part]
            return GatedLinear(inputs, outputs, mask_rank, bias=config.qkv_bias and part in "qkv")

        self.q, self.k, self.v, self.o = (linear(part) for part in "qkvo")
        self.g, self.u, self.d = (linear(part) for part in "gud")
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        attend: Tensor | None,
        memory: KVStore | None,
        gate: Tensor | None,
    ) -> Tensor:
        """See `Denoiser.forward`."""
        h = self.attention_norm(x)
        q, k, v = (self._heads(matrix.at(h, gate)) for matrix in (self.q, self.k, self.v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rotary(q, *turn), apply_rotary(k, *turn)
        if memory is not None:
            k, v = memory.append(self.index, k, v)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, enable_gqa=True)
        x = x + self.o.at(mixed.transpose(1, 2).flatten(2), gate)
        h = self.mlp_norm(x)
        return x + self.d.at(F.silu(self.g.at(h, gate)) * self.u.at(h, gate), gate)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, heads·W] → [B, heads, T, W]."""
        rows = x.view(*x.shape[:2], -1, self.config.head_dim)
        return rows.transpose(1, 2)


class Denoiser(nn.Module):
    """The whole network. `mask_rank` is the rank of the gated adapters, 0 for none.

    `mask_id` is needed only where there are gated adapters: rows with this id are gated.
    `vocabulary` [ids], if there is one, are the only tokens that are predicted; `logits` has all.
    """

    vocabulary: Tensor | None

    def __init__(self, config: ModelConfig, mask_rank: int = 0, mask_id: int = -1) -> None:
        super().__init__()
        self.config = config
        self.mask_id = mask_id
        self.mask_rank = mask_rank
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, index, mask_rank) for index in range(config.num_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.register_buffer("vocabulary", None, persistent=False)
        self.head = (
            None
            if config.tie_word_embeddings
            else nn.Linear(config.hidden_size, config.vocab_size, False)
        )

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        attend: Tensor | None,
        memory: KVStore | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D], normed, ready for `logits`.

        `ids` and `positions` [B, T]; `attend` [B or 1, 1, T, S], true where a row sees a key, or
        None where every row sees all; S counts the rows in `memory`, then the T new ones.
        """
        x = self.embedding(ids)
        turn = rotary_tables(positions, self.config, x.dtype)
        gate = (ids == self.mask_id)[..., None].to(x.dtype) if self.mask_rank else None
        for layer in self.layers:
            x = layer(x, turn, attend, memory, gate)
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] → [..., V]."""
        head = self.embedding if self.head is None else self.head
        return F.linear(hidden, head.weight)


def causal_mask(rows: int) -> Tensor:
    """[1, 1, rows, rows]: each row sees those up to it, and itself."""
    return torch.ones(rows, rows, dtype=torch.bool).tril()[None, None]
