"""Inputs for `rotate_and_cache`."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.paged import PAGE, PagedKVCache
from mercury_kernels.rope.reference import QkvEpilogue, Rotation
from mercury_kernels.weights import quantized

EpilogueKind = Literal["nothing", "bias", "norm"]

TOLERANCE: Tolerance = {
    torch.float32: 1e-6,
    torch.bfloat16: 8e-3,
    torch.float8_e4m3fn: 7.2e-2,
}
"""The largest fp8 numbers are 32 apart; the largest is 448."""


def rotation(positions: int, width: int, source: Source, theta: float = 1e4) -> Rotation:
    """The tables without scaling: the angle is p · θ^(−2i/D)."""
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
    cos, sin = (table.float().to(source.device) for table in (angles.cos(), angles.sin()))
    return Rotation(cos, sin)


def scattered(
    batch: int, pages: int, shape: tuple[int, int], source: Source, generator: torch.Generator
) -> PagedKVCache:
    """A cache of random pages with (H, D) = `shape`; the page table is a permutation."""
    order = torch.randperm(batch * pages, generator=generator).view(batch, pages)
    size = (batch * pages, PAGE, *shape)
    dtype = source.cache_dtype or source.dtype
    rows = (source.normal(generator, *size).view(-1, shape[1]) for _ in range(2))
    keys, values = (quantized(each, dtype) for each in rows)
    scales = [None if x.scale is None else x.scale.view(size[:-1]) for x in (keys, values)]
    table = order.to(torch.int32).to(source.device)
    return PagedKVCache(keys.values.view(size), values.values.view(size), table, *scales)


@dataclass(frozen=True, slots=True)
class RopeCase:
    """`tokens` at each of `starts` [B], the last `padding` of which are padding.

    `heads` are those of queries and of keys.
    """

    starts: tuple[int, ...]
    tokens: int
    heads: tuple[int, int]
    head_dim: int
    splits: int = 2
    epilogue: EpilogueKind = "nothing"
    padding: int = 0

    @property
    def name(self) -> str:
        """For example `B2-T5-H14/2-D64-S2-bias`."""
        shape = f"B{len(self.starts)}-T{self.tokens}-H{self.heads[0]}/{self.heads[1]}"
        padding = f"-padding{self.padding}" if self.padding else ""
        return f"{shape}-D{self.head_dim}-S{self.splits}-{self.epilogue}{padding}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """The cache has just enough pages, or one too few for the last position."""
        generator = source.generator()
        batch, (heads, num_kv_heads) = len(self.starts), self.heads
        columns = (heads + 2 * num_kv_heads) * self.head_dim
        parts = source.normal(generator, self.splits, batch * self.tokens, columns).float()

        def vector(size: int) -> Tensor:
            return source.normal(generator, size) + 1

        epilogue = {
            "nothing": lambda: QkvEpilogue(),
            "bias": lambda: QkvEpilogue(bias=vector(columns)),
            "norm": lambda: QkvEpilogue(q_norm=vector(self.head_dim), k_norm=vector(self.head_dim)),
        }[self.epilogue]()
        pages = max(1, (max(self.starts) + self.tokens) // PAGE)
        real = self.tokens - self.padding
        visible = [[s + real] * real + [0] * self.padding for s in self.starts]
        return {
            "parts": parts,
            "epilogue": epilogue,
            "rotation": rotation(max(self.starts) + self.tokens, self.head_dim, source),
            "start": source.numbers(self.starts),
            "visible": source.numbers(visible),
            "q": source.normal(generator, batch, self.tokens, heads, self.head_dim),
            "cache": scattered(batch, pages, (num_kv_heads, self.head_dim), source, generator),
        }

    def cost(self, source: Source) -> Cost:
        """Partial sums and tables are read; queries, keys and values are written."""
        elements = (
            len(self.starts) * self.tokens * (self.heads[0] + 2 * self.heads[1]) * self.head_dim
        )
        moved = elements * (4 * self.splits + source.dtype.itemsize)
        moved += len(self.starts) * self.tokens * self.head_dim * 4
        return Cost(moved, elements * (self.splits + 3))


TESTS = (
    RopeCase((0,), 1, (1, 1), 2, splits=1),
    RopeCase((3, 60), 5, (3, 1), 16),
    RopeCase((0, 127, 64), 3, (4, 2), 8, epilogue="bias"),
    RopeCase((61,), 7, (2, 2), 32, splits=4, epilogue="norm"),
    RopeCase((3, 58), 6, (3, 1), 16, padding=2),
)
