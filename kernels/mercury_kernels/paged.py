"""Keys and values of many sequences in pages of fixed size, so that contexts can grow and share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require

PAGE = 64
"""Positions of one page, and keys of one tile of the attention kernel."""

LARGEST_FP8 = 448.0
"""Keys and values beyond this are clamped where the cache is fp8."""

CACHED = (torch.float32, torch.bfloat16, torch.float8_e4m3fn)


@dataclass(frozen=True, slots=True)
class Paged:
    """Position p of sequence b is slot p % PAGE of page `table[b, p // PAGE]`.

    `keys` and `values` [pages, PAGE, H, D]; `table` [B, P] int32. Rows of a batch that stand for
    no sequence must point at pages that nobody reads: they are written all the same.
    """

    keys: Tensor
    values: Tensor
    table: Tensor

    @property
    def capacity(self) -> int:
        """The most positions that a sequence can have here."""
        return self.table.shape[1] * PAGE

    def slots(self, sequence: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Page and slot of some positions of a sequence."""
        return self.table[sequence, positions // PAGE].long(), positions % PAGE

    def require(self, batch: int, head_width: int, like: Tensor) -> None:
        """Raise TensorMismatch unless this is a cache for `batch` sequences of such heads."""
        require("cache.keys", self.keys, [None, PAGE, None, head_width], CACHED, like)
        require("cache.values", self.values, self.keys.shape, [self.keys.dtype], like)
        require("cache.table", self.table, [batch, None], [torch.int32], like)
        if self.table.shape[1] == 0:
            raise TensorMismatch("cache.table has no pages")


def stored(values: Tensor, dtype: torch.dtype) -> Tensor:
    """`values` as the cache keeps them."""
    if dtype == torch.float8_e4m3fn:
        values = values.clamp(-LARGEST_FP8, LARGEST_FP8)
    return values.to(dtype)
