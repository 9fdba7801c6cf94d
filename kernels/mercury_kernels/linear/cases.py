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
"""In bf16 the inner product of an adapter is passed on as the sum of two bf16 numbers (16 bits)."""


def specified(parts: Tensor) -> Tensor:
    """The sum over the splits: their number is the choice of the kernel."""
    return parts.sum(0)


MASK = 9


def activations(x: Tensor, source: Source) -> Rows:
    """`x` in the dtype of the rows of `source`."""
    return x if source.row_dtype is None else quantized(x, source.row_dtype)


def gated_adapter(tokens: int, shape: tuple[int, int], rank: int, source: Source) -> Gated | None:
    """An adapter for a matrix of `shape` (N, K), where every other row is masked."""
    if not rank:
        return None
    generator, (features, depth) = source.generator(), shape
    down = source.normal(generator, rank, depth, scale=depth**-0.5)
    up = source.normal(generator, features, rank, scale=rank**-0.5)
    ids = source.numbers([MASK if m % 2 else m for m in range(tokens)])
    return Gated(Adapter(down, up), ids, MASK)


def adapter_cost(tokens: int, shape: tuple[int, int], rank: int, source: Source) -> Cost:
    """`down` and `up` are read once and multiplied with every row."""
    numbers = rank * sum(shape)
    return Cost(numbers * source.dtype.itemsize, 2 * tokens * numbers)


@dataclass(frozen=True, slots=True)
class LinearCase:
    """A product of `tokens` [M] rows of `depth` [K] with `features` [N] outputs."""

    tokens: int
    features: int
    depth: int
    rank: int = 0

    @property
    def name(self) -> str:
        """For example `M32-N896-K4864`."""
        gated = f"-R{self.rank}" if self.rank else ""
        return f"M{self.tokens}-N{self.features}-K{self.depth}{gated}"

    @property
    def tolerance(self) -> Tolerance:
        """GATED with an adapter, otherwise TOLERANCE."""
        return GATED if self.rank else TOLERANCE

    def splits(self, source: Source) -> int:
        """The number of partial sums of the kernel."""
        tile = tile_for(self.tokens, source.weights, source.rows)
        return splits(self.tokens, self.features, self.depth, tile)

    def inputs(self, source: Source) -> dict[str, Any]:
        """Weights scaled so that outputs have about unit variance."""
        generator = source.generator()
        x = source.normal(generator, self.tokens, self.depth)
        matrix = source.normal(generator, self.features, self.depth, scale=self.depth**-0.5)
        gated = gated_adapter(self.tokens, (self.features, self.depth), self.rank, source)
        return {
            "x": activations(x, source),
            "weight": quantized(matrix, source.weights),
            "gated": gated,
        }

    def cost(self, source: Source) -> Cost:
        """Weights and activations are read once; partial sums are written in fp32."""
        moved = self.features * self.depth * source.weights.itemsize
        moved += self.tokens * self.depth * source.rows.itemsize
        moved += self.splits(source) * self.tokens * self.features * 4
        plain = Cost(moved, 2 * self.tokens * self.features * self.depth)
        return plain + adapter_cost(self.tokens, (self.features, self.depth), self.rank, source)


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
