"""Gated LoRA (Samragh et al. 2025, arXiv:2507.11851): adapters that act at masked rows only.

All other rows are those of the autoregressive network. The kernels of products compute the adapter,
too, so it costs no launch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require

MIN_RANK_TILE = 64
"""The minimum of rows of a tile of the adapter: the M of a tensor-core instruction (wgmma)."""

MAX_RANK = 128


@dataclass(frozen=True, slots=True)
class Adapter:
    """Adds up · down · x to a product. `down` [R, K] and `up` [N, R] have the dtype of x.

    Matrices that are fused into one product share `down`. If their adapters were trained
    separately, `down` stacks those of all, and `up` is block-diagonal.
    """

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class Gated:
    """An adapter and the rows that it acts at: those whose `ids` [M] int32 are `mask_id`."""

    adapter: Adapter
    ids: Tensor
    mask_id: int

    def delta(self, x: Tensor) -> Tensor:
        """The term [M, N] that is added to the product of x [M, K], in the dtype of x."""
        inner = x @ self.adapter.down.to(x.dtype).T
        inner = inner.masked_fill((self.ids != self.mask_id)[:, None], 0.0)
        return inner @ self.adapter.up.to(x.dtype).T

    def arguments(self) -> dict[str, Tensor | int]:
        """The arguments of a kernel for this adapter."""
        rank = self.adapter.down.shape[0]
        return {
            "down": self.adapter.down,
            "lift": self.adapter.up,
            "ids": self.ids,
            "mask_id": self.mask_id,
            "rank": rank,
            "RANK": max(MIN_RANK_TILE, 1 << (rank - 1).bit_length()),
        }

    def require(self, features: int, x: Tensor) -> None:
        """Raise TensorMismatch unless this fits x [M, K] and `features` outputs."""
        tokens, depth = x.shape
        down, up = self.adapter.down, self.adapter.up
        require("adapter.down", down, [None, depth], [x.dtype], x)
        require("adapter.up", up, [features, down.shape[0]], [x.dtype], x)
        require("ids", self.ids, [tokens], [torch.int32], x)
        if not 1 <= down.shape[0] <= MAX_RANK:
            raise TensorMismatch(
                f"adapter.down has {down.shape[0]} rows; 1 to {MAX_RANK} are supported"
            )


NO_ADAPTER = {"down": None, "lift": None, "ids": None, "mask_id": 0, "rank": 0, "RANK": 0}
"""The arguments of a kernel without an adapter."""
