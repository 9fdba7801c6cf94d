"""The denoiser: a Llama-shaped network in torch, for inference and training alike.

SmolLM2, Llama and LLaDA as they are; `ModelConfig.qkv_bias` makes it Qwen2 and Dream,
`ModelConfig.qk_norm` Qwen3. Attention and adapters are injected: which rows see which, and what is
added to the matrices, is for the caller to say. Knows no text and no policy.

Shapes: B sequences, T rows, S keys, D width, H heads, G key-value heads, W head width,
V vocabulary.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mercury_model.network.adapters import (
    Adapters,
    GatedAdapters,
    LowRankAdapters,
    NoAdapters,
    load_gated,
)
from mercury_model.network.attention import Attention
from mercury_model.network.operations import rms_norm, rotary, swiglu
from mercury_model.spec.model_config import ModelConfig


class RMSNorm(nn.Module):
    """See `operations.RMSNorm`."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., width] → the same shape and type."""
        return rms_norm(x, self.weight, self.eps)


def rotary_tables(
    positions: Tensor, config: ModelConfig, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, T, W / 2] of the angles at `positions` [B, T]."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = config.rope_theta ** -(half / config.head_dim)
    angles = positions[:, None, :, None].float() * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


class Layer(nn.Module):
    """Attention, then a gated MLP, each on a normed copy and added back."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.config = config

        def linear(part: str) -> nn.Linear:
            outputs, inputs = config.projections[part]
            return nn.Linear(inputs, outputs, bias=config.qkv_bias and part in "qkv")

        self.q, self.k, self.v, self.o = (linear(part) for part in "qkvo")
        self.g, self.u, self.d = (linear(part) for part in "gud")
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], attention: Attention, adapters: Adapters
    ) -> Tensor:
        """`x` and the result are [B, T, D]; `rotation` as `rotary_tables` returns it."""
        q, k, v = self._qkv(self.attention_norm(x), rotation, adapters)
        rows = attention(self.index, q, k, v).transpose(1, 2).flatten(2)
        x = x + adapters.project(self.index, "o", rows, (self.o,))[0]
        return x + self._mlp(self.mlp_norm(x), adapters)

    def _qkv(
        self, h: Tensor, rotation: tuple[Tensor, Tensor], adapters: Adapters
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, heads, T, W], the first two rotated."""
        projected = adapters.project(self.index, "qkv", h, (self.q, self.k, self.v))
        q, k, v = map(self._heads, projected)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return rotary(q, *rotation), rotary(k, *rotation), v

    def _mlp(self, h: Tensor, adapters: Adapters) -> Tensor:
        rows = swiglu(*adapters.project(self.index, "gu", h, (self.g, self.u)))
        return adapters.project(self.index, "d", rows, (self.d,))[0]

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, heads·W] → [B, heads, T, W]."""
        rows = x.view(*x.shape[:2], -1, self.config.head_dim)
        return rows.transpose(1, 2)


class Denoiser(nn.Module):
    """The whole network. Parameters are named as in checkpoints, with `.weight` after matrices.

    `gated` are the adapters of a checkpoint. They act at rows with `mask_id`, unless a call brings
    adapters of its own. `vocabulary` [ids], if there is one, lists the only
    tokens that are predicted; `logits` has all.

    `recomputed`: layers of which only the input is kept for the backward pass, which runs them
    again (Chen et al. 2016, arXiv:1604.06174): less memory for more time, the same gradients.
    """

    vocabulary: Tensor | None

    def __init__(
        self, config: ModelConfig, gated: LowRankAdapters | None = None, mask_id: int = -1
    ) -> None:
        super().__init__()
        self.config = config
        self.gated = gated
        self.mask_id = mask_id
        self.recomputed = range(0)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.register_buffer("vocabulary", None, persistent=False)
        self.head = (
            None
            if config.tie_word_embeddings
            else nn.Linear(config.hidden_size, config.vocab_size, False)
        )

    @property
    def head_weight(self) -> Tensor:
        """[V, D]: the matrix that makes logits of hidden states."""
        return (self.embedding if self.head is None else self.head).weight

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        attention: Attention,
        adapters: Adapters | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D], normed, ready for `logits`; `ids` and `positions` [B, T]."""
        x = self.embedding(ids)
        rotation = rotary_tables(positions, self.config, x.dtype)
        if adapters is None:
            adapters = self._own_adapters(ids, x.dtype)
        for layer in self.layers:
            if layer.index in self.recomputed and torch.is_grad_enabled():
                x = checkpoint(
                    layer, x, rotation, attention, adapters,
                    use_reentrant=False, preserve_rng_state=False,
                )  # fmt: skip
            else:
                x = layer(x, rotation, attention, adapters)
        hidden: Tensor = self.norm(x)
        return hidden

    def _own_adapters(self, ids: Tensor, dtype: torch.dtype) -> Adapters:
        if self.gated is None:
            return NoAdapters()
        return GatedAdapters(self.gated, (ids == self.mask_id)[..., None].to(dtype))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] → [..., V]."""
        return F.linear(hidden, self.head_weight)


def load_denoiser(
    config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]], mask_id: int = -1
) -> Denoiser:
    """The network with the weights of a checkpoint, named as `checkpoint` does. Copies nothing.

    Raises RuntimeError when names or shapes do not fit `config`.
    """
    named = {name: torch.from_numpy(values) for name, values in tensors.items()}
    gated = {name: named.pop(name) for name in tensors if ".mask_" in name}
    vocabulary = named.pop("vocabulary", None)
    with torch.device("meta"):
        model = Denoiser(config, mask_id=mask_id)
    state = {parameter_name(name): values for name, values in named.items()}
    model.load_state_dict(state, strict=True, assign=True)
    model.gated = load_gated(config, gated)
    model.vocabulary = None if vocabulary is None else vocabulary.long()
    return model


def parameter_name(name: str) -> str:
    """The name of a checkpoint's tensor in the module: all but biases end in `.weight`."""
    return name if name.endswith(".bias") else f"{name}.weight"
