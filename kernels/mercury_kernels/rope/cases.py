"""Inputs for `rotate_and_cache`."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.paged import PAGE, Paged
from mercury_kernels.rope.reference import Projection, Rotation
from mercury_kernels.weights import quantized

Before = Literal["nothing", "bias", "norm"]

TOLERANCE: Tolerance = {
    torch.float32: 1e-6,
    torch.bfloat16: 8e-3,
    torch.float8_e4m3fn: 7.2e-2,
}
"""The largest numbers of fp8 are 32 apart, 448 the last."""


def rotation(positions: int, width: int, source: Source, theta: float = 1e4) -> Rotation:
    """The plain tables: angle p · θ^(−2i/D)."""
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
    cos, sin = (table.float().to(source.device) for table in (angles.cos(), angles.sin()))
    return Rotation(cos, sin)


def scattered(
    batch: int, pages: int, shape: tuple[int, int], source: Source, generator: torch.Generator
) -> Paged:
    """A cache of random pages, [.., H, D] = `shape`, given to sequences out of order."""
    order = torch.randperm(batch * pages, generator=generator).view(batch, pages)
    size = (batch * pages, PAGE, *shape)
    kept = source.cache_dtype or source.dtype
    rows = (source.normal(generator, *size).view(-1, shape[1]) for _ in range(2))
    keys, values = (quantized(each, kept) for each in rows)
    scales = [None if x.scale is None else x.scale.view(size[:-1]) for x in (keys, values)]
    table = order.to(torch.int32).to(source.device)
    return Paged(keys.values.view(size), values.values.view(size), table, *scales)


@dataclass(frozen=True, slots=True)
class RopeCase:
    """`starts` [B], `tokens` [T] each, the last `padding` of them none; heads of queries and keys;
    what comes before.
    """

    starts: tuple[int, ...]
    tokens: int
    heads: tuple[int, int]
    width: int
    splits: int = 2
    before: Before = "nothing"
    padding: int = 0

    @property
    def name(self) -> str:
        """As in `B2-T5-H14/2-D64-S2-bias`."""
        shape = f"B{len(self.starts)}-T{self.tokens}-H{self.heads[0]}/{self.heads[1]}"
        padding = f"-padding{self.padding}" if self.padding else ""
        return f"{shape}-D{self.width}-S{self.splits}-{self.before}{padding}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """The cache holds just enough pages, unless the last position is meant to fall off."""
        generator = source.generator()
        batch, (heads, num_kv_heads) = len(self.starts), self.heads
        columns = (heads + 2 * num_kv_heads) * self.width
        parts = source.normal(generator, self.splits, batch * self.tokens, columns).float()

        def vector(size: int) -> Tensor:
            return source.normal(generator, size) + 1

        after = {
            "nothing": lambda: Projection(),
            "bias": lambda: Projection(bias=vector(columns)),
            "norm": lambda: Projection(q_norm=vector(self.width), k_norm=vector(self.width)),
        }[self.before]()
        pages = max(1, (max(self.starts) + self.tokens) // PAGE)
        real = self.tokens - self.padding
        visible = [[s + real] * real + [0] * self.padding for s in self.starts]
        return {
            "parts": parts,
            "after": after,
            "rotation": rotation(max(self.starts) + self.tokens, self.width, source),
            "start": source.numbers(self.starts),
            "visible": source.numbers(visible),
            "q": source.normal(generator, batch, self.tokens, heads, self.width),
            "cache": scattered(batch, pages, (num_kv_heads, self.width), source, generator),
        }

    def cost(self, source: Source) -> Cost:
        """Partial sums read, queries, keys and values written, the tables read once a token."""
        elements = len(self.starts) * self.tokens * (self.heads[0] + 2 * self.heads[1]) * self.width
        moved = elements * (4 * self.splits + source.dtype.itemsize)
        moved += len(self.starts) * self.tokens * self.width * 4
        return Cost(moved, elements * (self.splits + 3))


TESTS = (
    RopeCase((0,), 1, (1, 1), 2, splits=1),
    RopeCase((3, 60), 5, (3, 1), 16),
    RopeCase((0, 127, 64), 3, (4, 2), 8, before="bias"),
    RopeCase((61,), 7, (2, 2), 32, splits=4, before="norm"),
    RopeCase((3, 58), 6, (3, 1), 16, padding=2),
)
