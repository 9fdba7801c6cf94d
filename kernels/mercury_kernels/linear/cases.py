"""Inputs for `linear`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mercury_kernels.adapter import Adapter, Gated
from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.tile import splits, tile_for
from mercury_kernels.weights import Rows, quantized

TOLERANCE: Tolerance = {torch.float32: 2e-6, torch.bfloat16: 2e-6}

GATED: Tolerance = {torch.float32: 5e-6, torch.bfloat16: 5e-6}
"""Beside bf16 an adapter's inner half is handed on as two numbers of bf16: 16 bits."""


def specified(parts: Tensor) -> Tensor:
    """Into how many partial sums a product is split is the kernel's choice."""
    return parts.sum(0)


MASK = 9


def taken(x: Tensor, source: Source) -> Rows:
    """Activations as the products of this source take them."""
    return x if source.row_dtype is None else quantized(x, source.row_dtype)


def gates(tokens: int, shape: tuple[int, int], rank: int, source: Source) -> Gated | None:
    """An adapter of this rank beside a matrix of this shape [N, K], every other row masked."""
    if not rank:
        return None
    generator, (features, depth) = source.generator(), shape
    down = source.normal(generator, rank, depth, scale=depth**-0.5)
    up = source.normal(generator, features, rank, scale=rank**-0.5)
    ids = source.numbers([MASK if m % 2 else m for m in range(tokens)])
    return Gated(Adapter(down, up), ids, MASK)


def gates_cost(tokens: int, shape: tuple[int, int], rank: int, source: Source) -> Cost:
    """Both halves read once, multiplied at every row."""
    numbers = rank * sum(shape)
    return Cost(numbers * source.dtype.itemsize, 2 * tokens * numbers)


@dataclass(frozen=True, slots=True)
class LinearCase:
    """`tokens` [M] rows of `depth` [K] through `features` [N] outputs."""

    tokens: int
    features: int
    depth: int
    rank: int = 0

    @property
    def name(self) -> str:
        """As in `M32-N896-K4864`."""
        gated = f"-R{self.rank}" if self.rank else ""
        return f"M{self.tokens}-N{self.features}-K{self.depth}{gated}"

    @property
    def tolerance(self) -> Tolerance:
        """What agreement means with an adapter, and without."""
        return GATED if self.rank else TOLERANCE

    def splits(self, source: Source) -> int:
        """How many partial sums the kernel leaves."""
        tile = tile_for(self.tokens, source.weights, source.rows)
        return splits(self.tokens, self.features, self.depth, tile)

    def inputs(self, source: Source) -> dict[str, Any]:
        """Weights scaled as a trained layer's, so that outputs are about one."""
        generator = source.generator()
        x = source.normal(generator, self.tokens, self.depth)
        matrix = source.normal(generator, self.features, self.depth, scale=self.depth**-0.5)
        gated = gates(self.tokens, (self.features, self.depth), self.rank, source)
        return {"x": taken(x, source), "weight": quantized(matrix, source.weights), "gated": gated}

    def cost(self, source: Source) -> Cost:
        """Weights and activations read once, the partial sums written in fp32."""
        moved = self.features * self.depth * source.weights.itemsize
        moved += self.tokens * self.depth * source.rows.itemsize
        moved += self.splits(source) * self.tokens * self.features * 4
        plain = Cost(moved, 2 * self.tokens * self.features * self.depth)
        return plain + gates_cost(self.tokens, (self.features, self.depth), self.rank, source)


TESTS = (
    LinearCase(1, 1, 1),
    LinearCase(5, 63, 60),
    LinearCase(17, 130, 500),
    LinearCase(33, 96, 576),
    LinearCase(70, 65, 130),
    LinearCase(130, 200, 96),
    LinearCase(33, 70, 200, rank=5),
    LinearCase(5, 66, 130, rank=70),
)
