"""Adapters that act at masked rows alone, so that all other rows are the autoregressive network's.

Samragh et al. 2025, arXiv:2507.11851. Products take them along: an adapter costs no launch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require

NARROWEST = 64
"""Rows of the inner half in a program: the least that the tensor cores' wide instruction takes."""

MOST_RANK = 128


@dataclass(frozen=True, slots=True)
class Adapter:
    """Adds up · down · x to a product. `down` [R, K], `up` [N, R], in the type of x.

    Matrices that are multiplied together share `down`; where they were taught apart, it has the
    rows of all, and `up` zeros where a matrix has none.
    """

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class Gated:
    """An adapter and the rows [M] it acts at: those whose `ids` [M] int32 are `mask_id`."""

    adapter: Adapter
    ids: Tensor
    mask_id: int

    def added(self, x: Tensor) -> Tensor:
        """What is added to the product of x [M, K]: [M, N], in the type of x."""
        inner = x @ self.adapter.down.to(x.dtype).T
        inner = inner.masked_fill((self.ids != self.mask_id)[:, None], 0.0)
        return inner @ self.adapter.up.to(x.dtype).T

    def arguments(self) -> dict[str, Tensor | int]:
        """What a kernel is given of it."""
        rank = self.adapter.down.shape[0]
        return {
            "down": self.adapter.down,
            "lift": self.adapter.up,
            "ids": self.ids,
            "mask_id": self.mask_id,
            "rank": rank,
            "RANK": max(NARROWEST, 1 << (rank - 1).bit_length()),
        }

    def require(self, features: int, x: Tensor) -> None:
        """Raise TensorMismatch unless this goes with x [M, K] through `features` outputs."""
        tokens, depth = x.shape
        down, up = self.adapter.down, self.adapter.up
        require("adapter.down", down, [None, depth], [x.dtype], x)
        require("adapter.up", up, [features, down.shape[0]], [x.dtype], x)
        require("ids", self.ids, [tokens], [torch.int32], x)
        if not 1 <= down.shape[0] <= MOST_RANK:
            raise TensorMismatch(
                f"adapter.down has {down.shape[0]} rows; from 1 to {MOST_RANK} are possible"
            )


NONE = {"down": None, "lift": None, "ids": None, "mask_id": 0, "rank": 0, "RANK": 0}
"""What a kernel is given where there is no adapter."""
