"""Keys and values of many sequences in pages of fixed size (PagedAttention, Kwon et al. 2023)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.weights import quantized

PAGE = 64
"""Positions of a page, and keys of a tile of the attention kernel."""

FP8 = torch.float8_e4m3fn
"""The dtype of quantized keys and values. Each head of each position has its own scale."""

CACHE_DTYPES = (torch.float32, torch.bfloat16, FP8)


@dataclass(frozen=True, slots=True)
class PagedKVCache:
    """The keys and values of one layer.

    Position p of sequence b is slot p % PAGE of page `table[b, p // PAGE]`. `keys` and `values`
    [pages, PAGE, H, D]; `table` [B, P] int32. In fp8 they have the scales `key_scale` and
    `value_scale` [pages, PAGE, H] fp32.
    """

    keys: Tensor
    values: Tensor
    table: Tensor
    key_scale: Tensor | None = None
    value_scale: Tensor | None = None

    @property
    def capacity(self) -> int:
        """The maximum number of positions of a sequence."""
        return self.table.shape[1] * PAGE

    def read(self, sequence: int, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The keys and values [L, H, D] at `positions` [L] of a sequence, in `dtype`."""
        at = self._slots(sequence, positions)
        return (
            _dequantized(self.keys, self.key_scale, at, dtype),
            _dequantized(self.values, self.value_scale, at, dtype),
        )

    def write(self, sequence: int, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [L, H, D] at `positions` [L] of a sequence."""
        at = self._slots(sequence, positions)
        _store(self.keys, self.key_scale, at, keys)
        _store(self.values, self.value_scale, at, values)

    def require(self, batch: int, head_dim: int, like: Tensor) -> None:
        """Raise TensorMismatch unless this fits `batch` sequences and heads of `head_dim`."""
        require("cache.keys", self.keys, [None, PAGE, None, head_dim], CACHE_DTYPES, like)
        require("cache.values", self.values, self.keys.shape, [self.keys.dtype], like)
        require("cache.table", self.table, [batch, None], [torch.int32], like)
        if self.table.shape[1] == 0:
            raise TensorMismatch("cache.table has no pages")
        for name, scale in (("key_scale", self.key_scale), ("value_scale", self.value_scale)):
            if (scale is not None) != (self.keys.dtype == FP8):
                raise TensorMismatch(f"cache.{name} goes with keys in fp8, and only with them")
            if scale is not None:
                require(f"cache.{name}", scale, self.keys.shape[:3], [torch.float32], like)

    def _slots(self, sequence: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.table[sequence, positions // PAGE].long(), positions % PAGE


def _dequantized(
    tensor: Tensor, scale: Tensor | None, at: tuple[Tensor, Tensor], dtype: torch.dtype
) -> Tensor:
    values = tensor[at].to(dtype)
    return values if scale is None else values * scale[at].to(dtype)[..., None]


def _store(tensor: Tensor, scale: Tensor | None, at: tuple[Tensor, Tensor], rows: Tensor) -> None:
    stored = quantized(rows.reshape(-1, rows.shape[-1]), tensor.dtype)
    tensor[at] = stored.values.view(rows.shape)
    if scale is not None and stored.scale is not None:
        scale[at] = stored.scale.view(rows.shape[:-1]).to(scale.dtype)


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of all layers: `kv` [layers, 2, pages, PAGE, H, D], keys first.

    `scales` [layers, 2, pages, PAGE, H] fp32 exist in fp8 only.
    """

    kv: Tensor
    scales: Tensor | None = None

    @classmethod
    def empty(
        cls, layers: int, count: int, heads: tuple[int, int], dtype: torch.dtype, like: Tensor
    ) -> "Pages":
        """`count` pages of zeros for `heads` [H, D], on the device of `like`."""
        shape = (layers, 2, count, PAGE, *heads)
        return cls(
            torch.zeros(shape, dtype=dtype, device=like.device),
            torch.zeros(shape[:-1], dtype=torch.float32, device=like.device)
            if dtype == FP8
            else None,
        )

    @property
    def count(self) -> int:
        """The number of pages."""
        return self.kv.shape[2]

    @property
    def page_bytes(self) -> int:
        """The bytes of one page in all layers."""
        return sum(tensor[:, :, 0].nbytes for tensor in self._tensors())

    def caches(self, table: Tensor) -> tuple[PagedKVCache, ...]:
        """The cache of each layer for sequences with the page table [B, P] int32."""
        caches = tuple(PagedKVCache(keys, values, table) for keys, values in self.kv.unbind())
        if self.scales is None:
            return caches
        return tuple(
            replace(cache, key_scale=of_keys, value_scale=of_values)
            for cache, (of_keys, of_values) in zip(caches, self.scales.unbind(), strict=True)
        )

    def copy(self, source: int, to: int) -> None:
        """Copy page `source` to page `to` in all layers."""
        for tensor in self._tensors():
            tensor[:, :, to] = tensor[:, :, source]

    def doubled(self) -> "Pages":
        """Twice as many pages; the first half are copies of these."""
        more = [tensor.new_zeros(_twice(tensor.shape)) for tensor in self._tensors()]
        for large, small in zip(more, self._tensors(), strict=True):
            large[:, :, : self.count] = small
        return Pages(*more)

    def _tensors(self) -> list[Tensor]:
        return [self.kv] if self.scales is None else [self.kv, self.scales]


def _twice(shape: torch.Size) -> list[int]:
    return [*shape[:2], 2 * shape[2], *shape[3:]]
