"""Which rows see which keys, and where the keys of earlier rows are: injected into the network."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mercury_model.network.operations import QueryRange, ranged_attention


class Attention(Protocol):
    """How the rows of one forward pass attend."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, H, T, W], k and v [B, G, T, W] of the new rows; the result is [B, H, T, W]."""


class KVStore(Protocol):
    """Where keys and values of earlier rows are, and where those of new rows go."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put new rows [B, G, T, W] behind those of `layer`; returns all rows [B, G, S, W]."""


class MaskedAttention:
    """Attention over a stored context and the new rows, through one mask.

    `mask` [B or 1, 1, T, S] is true where a row sees a key; None lets every row see every key.
    S counts the rows in `kv`, then the T new ones.
    """

    def __init__(self, mask: Tensor | None = None, kv: KVStore | None = None) -> None:
        self._mask = mask
        self._kv = kv

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention`."""
        if self._kv is not None:
            k, v = self._kv.append(layer, k, v)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask, enable_gqa=True)


class StreamAttention:
    """Attention of one training stream (B is 1), range by range.

    `before` is the attention of a stream that ran earlier: its keys come first, outside of the
    graph. `kv` holds keys and values [G, N, W] of each layer that ran, outside of the graph too.
    """

    def __init__(
        self, ranges: Sequence[QueryRange], before: "StreamAttention | None" = None
    ) -> None:
        self._ranges = ranges
        self._before = before
        self.kv: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention`."""
        q, k, v = q[0], k[0], v[0]
        if self._before is not None:
            keys, values = self._before.kv[layer]
            k, v = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        elif layer not in self.kv:  # a layer that runs again for its gradients is not kept twice
            self.kv[layer] = k.detach(), v.detach()
        return ranged_attention(q, k, v, self._ranges)[None]


def causal_mask(rows: int) -> Tensor:
    """[1, 1, rows, rows]: each row sees those up to it, and itself."""
    return torch.ones(rows, rows, dtype=torch.bool).tril()[None, None]
