"""Keys and values of many sequences in pages of fixed size, so that contexts can grow and share."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.weights import quantized

PAGE = 64
"""Positions of one page, and keys of one tile of the attention kernel."""

NARROW = torch.float8_e4m3fn
"""The type of narrow keys and values. Each head of each position then has a scale of its own."""

CACHED = (torch.float32, torch.bfloat16, NARROW)


@dataclass(frozen=True, slots=True)
class Paged:
    """Position p of sequence b is slot p % PAGE of page `table[b, p // PAGE]`.

    `keys` and `values` [pages, PAGE, H, D]; `table` [B, P] int32. In fp8 they are meant times
    `key_scale` and `value_scale` [pages, PAGE, H] fp32.
    """

    keys: Tensor
    values: Tensor
    table: Tensor
    key_scale: Tensor | None = None
    value_scale: Tensor | None = None

    @property
    def capacity(self) -> int:
        """The most positions that a sequence can have here."""
        return self.table.shape[1] * PAGE

    def read(self, sequence: int, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [L, H, D] at some positions of a sequence."""
        at = self._slots(sequence, positions)
        return (
            _meant(self.keys, self.key_scale, at, dtype),
            _meant(self.values, self.value_scale, at, dtype),
        )

    def write(self, sequence: int, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keep keys and values [L, H, D] at some positions of a sequence."""
        at = self._slots(sequence, positions)
        _keep(self.keys, self.key_scale, at, keys)
        _keep(self.values, self.value_scale, at, values)

    def require(self, batch: int, head_dim: int, like: Tensor) -> None:
        """Raise TensorMismatch unless this is a cache for `batch` sequences of such heads."""
        require("cache.keys", self.keys, [None, PAGE, None, head_dim], CACHED, like)
        require("cache.values", self.values, self.keys.shape, [self.keys.dtype], like)
        require("cache.table", self.table, [batch, None], [torch.int32], like)
        if self.table.shape[1] == 0:
            raise TensorMismatch("cache.table has no pages")
        for name, scale in (("key_scale", self.key_scale), ("value_scale", self.value_scale)):
            if (scale is not None) != (self.keys.dtype == NARROW):
                raise TensorMismatch(f"cache.{name} goes with keys in fp8, and only with them")
            if scale is not None:
                require(f"cache.{name}", scale, self.keys.shape[:3], [torch.float32], like)

    def _slots(self, sequence: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.table[sequence, positions // PAGE].long(), positions % PAGE


def _meant(
    held: Tensor, scale: Tensor | None, at: tuple[Tensor, Tensor], dtype: torch.dtype
) -> Tensor:
    wide = held[at].to(dtype)
    return wide if scale is None else wide * scale[at].to(dtype)[..., None]


def _keep(held: Tensor, scale: Tensor | None, at: tuple[Tensor, Tensor], rows: Tensor) -> None:
    kept = quantized(rows.reshape(-1, rows.shape[-1]), held.dtype)
    held[at] = kept.values.view(rows.shape)
    if scale is not None and kept.scale is not None:
        scale[at] = kept.scale.view(rows.shape[:-1]).to(scale.dtype)


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of all layers of a network: `held` [layers, 2, pages, PAGE, H, D], keys first.

    `scales` [layers, 2, pages, PAGE, H] fp32 where these are fp8.
    """

    held: Tensor
    scales: Tensor | None = None

    @classmethod
    def empty(
        cls, layers: int, count: int, heads: tuple[int, int], dtype: torch.dtype, like: Tensor
    ) -> "Pages":
        """`count` pages of zeros for `heads` [H, D], on the device of `like`."""
        shape = (layers, 2, count, PAGE, *heads)
        narrow = dtype == NARROW
        return cls(
            torch.zeros(shape, dtype=dtype, device=like.device),
            torch.zeros(shape[:-1], dtype=torch.float32, device=like.device) if narrow else None,
        )

    @property
    def count(self) -> int:
        """How many pages there are."""
        return self.held.shape[2]

    @property
    def page_bytes(self) -> int:
        """What one page takes in all layers."""
        return sum(tensor[:, :, 0].nbytes for tensor in self._tensors())

    def caches(self, table: Tensor) -> tuple[Paged, ...]:
        """The cache of each layer, for sequences with these pages."""
        caches = tuple(Paged(keys, values, table) for keys, values in self.held.unbind())
        if self.scales is None:
            return caches
        return tuple(
            replace(cache, key_scale=of_keys, value_scale=of_values)
            for cache, (of_keys, of_values) in zip(caches, self.scales.unbind(), strict=True)
        )

    def copy(self, source: int, to: int) -> None:
        """Make one page what another is."""
        for tensor in self._tensors():
            tensor[:, :, to] = tensor[:, :, source]

    def doubled(self) -> "Pages":
        """Twice as many, the first of which are these."""
        more = [tensor.new_zeros(_twice(tensor.shape)) for tensor in self._tensors()]
        for large, small in zip(more, self._tensors(), strict=True):
            large[:, :, : self.count] = small
        return Pages(*more)

    def _tensors(self) -> list[Tensor]:
        return [self.held] if self.scales is None else [self.held, self.scales]


def _twice(shape: torch.Size) -> list[int]:
    return [*shape[:2], 2 * shape[2], *shape[3:]]
