"""The adapted network, as training sees it: two streams over one frozen base.

The clean stream is the autoregressive network: base + A. The mask stream runs base + A + B, with A
held fixed and B living on mask rows only, over the clean stream's keys and values. So the masks'
loss reaches B alone and the autoregressive path is what its own loss makes of it (gated adapters:
Samragh et al., "Your LLM knows the future", 2025).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.layers import (
    QueryRange,
    attention,
    low_rank_linear,
    rms_norm,
    rotary,
    swiglu,
)

GROUPS = {"qkv": ("q", "k", "v"), "o": ("o",), "gu": ("g", "u"), "d": ("d",)}
"""Projections that read the same rows share a matrix product, and the inner half of an adapter."""


Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """One layer's weights, [out, in], those of a group stacked."""

    matrices: Mapping[str, Tensor]
    attention_norm: Tensor
    mlp_norm: Tensor


@dataclass(frozen=True, slots=True)
class FrozenNetwork:
    """Everything that training leaves alone. `embedding` [V, D] is the head too."""

    config: ModelConfig
    embedding: Tensor
    norm: Tensor
    layers: tuple[FrozenLayer, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows to run: `ids` and `positions` [N], and what each may see (`spans` cover all rows)."""

    ids: Tensor
    positions: Tensor
    spans: Sequence[QueryRange]


@dataclass(frozen=True, slots=True)
class PrefixKV:
    """Keys and values of the clean rows for each layer, [G, N, D], cut from the graph."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class Adapters(nn.Module):
    """Low-rank additions to the groups of the layers from `first` on; zero when new.

    Names are `{layer}_{group}_{a|b}`; a [rank, in], b [out, rank].
    """

    def __init__(
        self, frozen: FrozenNetwork, rank: int, first: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.first = first
        self.rank = rank
        self.weights = nn.ParameterDict()
        device = frozen.embedding.device
        for i, layer in enumerate(frozen.layers[first:], first):
            for group, matrix in layer.matrices.items():
                out, width = matrix.shape
                a = torch.randn(rank, width, generator=generator) / width**0.5
                self.weights[f"{i}_{group}_a"] = nn.Parameter(a.to(device))
                self.weights[f"{i}_{group}_b"] = nn.Parameter(torch.zeros(out, rank, device=device))

    def pair(self, layer: int, group: str) -> tuple[Tensor, Tensor] | None:
        """The two halves for one product, or None below `first`."""
        if layer < self.first:
            return None
        return self.weights[f"{layer}_{group}_a"], self.weights[f"{layer}_{group}_b"]


class AdaptedNetwork(nn.Module):
    """Base and adapters; `clean` first, then `masks` over what it remembers.

    `recompute`: of each layer only what goes in is kept for the backward pass, which runs it again
    (Chen et al. 2016, arXiv:1604.06174): less memory for more time, the same gradients.
    """

    def __init__(
        self, frozen: FrozenNetwork, plain: Adapters, gated: Adapters, *, recompute: bool = False
    ) -> None:
        super().__init__()
        self.frozen = frozen
        self.plain = plain
        self.gated = gated
        self.recompute = recompute

    def clean(self, stream: Stream) -> tuple[Tensor, PrefixKV]:
        """Hidden rows [N, D] after the last norm, with the graph of A; and what masks may see."""
        hidden, keys, values = self._run(stream, None)
        return hidden, PrefixKV(tuple(k.detach() for k in keys), tuple(v.detach() for v in values))

    def masks(self, stream: Stream, memory: PrefixKV) -> Tensor:
        """Hidden rows [N, D] of the masks, with the graph of B alone.

        Keys of the spans count the memory's rows first, then the stream's own.
        """
        return self._run(stream, memory)[0]

    def _run(
        self, stream: Stream, memory: PrefixKV | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The last rows, normed, and the keys and values [G, N, D] of each layer."""
        config = self.frozen.config
        x = self.frozen.embedding[stream.ids]
        turn = rotary_table(config, stream.positions, x.dtype)
        keys, values = [], []
        for i in range(config.num_layers):
            x, k, v = self._layer(x, i, turn, stream.spans, memory)
            keys.append(k)
            values.append(v)
        return rms_norm(x, self.frozen.norm, config.rms_norm_eps), keys, values

    def _layer(
        self, x: Tensor, i: int, turn: Pair, spans: Sequence[QueryRange], memory: PrefixKV | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What comes out of layer `i`, and the keys and values of its rows."""
        if not (self.recompute and torch.is_grad_enabled() and i >= self.plain.first):
            return self._through(x, i, turn, spans, memory)
        out: tuple[Tensor, Tensor, Tensor] = checkpoint(
            self._through, x, i, turn, spans, memory, use_reentrant=False, preserve_rng_state=False
        )
        return out

    def _through(
        self, x: Tensor, i: int, turn: Pair, spans: Sequence[QueryRange], memory: PrefixKV | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        config, layer = self.frozen.config, self.frozen.layers[i]
        h = rms_norm(x, layer.attention_norm, config.rms_norm_eps)
        qkv = self._linear(h, i, "qkv", memory).view(len(x), -1, config.head_dim)
        turned = rotary(qkv[:, : config.num_heads + config.num_kv_heads], *turn)
        q, own = turned.transpose(0, 1).tensor_split([config.num_heads])
        values = qkv[:, config.num_heads + config.num_kv_heads :].transpose(0, 1)
        k, v = own, values
        if memory is not None:
            k = torch.cat([memory.keys[i], k], 1)
            v = torch.cat([memory.values[i], v], 1)
        mixed = attention(q, k, v, spans).reshape(len(x), -1)
        x = x + self._linear(mixed, i, "o", memory)
        h = rms_norm(x, layer.mlp_norm, config.rms_norm_eps)
        return (
            x + self._linear(swiglu(self._linear(h, i, "gu", memory)), i, "d", memory),
            own,
            values,
        )

    def _linear(self, x: Tensor, layer: int, group: str, memory: PrefixKV | None) -> Tensor:
        w = self.frozen.layers[layer].matrices[group]
        plain = self.plain.pair(layer, group)
        if memory is not None:
            plain = join(detached(plain), self.gated.pair(layer, group))
        if plain is None:
            return F.linear(x, w)
        return low_rank_linear(x, w, *plain)


def detached(pair: Pair | None) -> Pair | None:
    """The same numbers, out of reach of gradients."""
    return None if pair is None else (pair[0].detach(), pair[1].detach())


def join(one: Pair | None, other: Pair | None) -> Pair | None:
    """Two low-rank additions as one of the summed rank."""
    if one is None or other is None:
        return one or other
    return torch.cat([one[0], other[0]], 0), torch.cat([one[1], other[1]], 1)


def rotary_table(config: ModelConfig, positions: Tensor, dtype: torch.dtype) -> Pair:
    """Cosines and sines [N, head_width / 2] of the angles at `positions` [N]."""
    exponents = torch.arange(0, config.head_dim, 2, device=positions.device).float()
    angles = positions.float()[:, None] / config.rope_theta ** (exponents / config.head_dim)
    return angles.cos().to(dtype), angles.sin().to(dtype)
