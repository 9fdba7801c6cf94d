"""Inputs for `linear`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.tile import splits, tile_for
from mercury_kernels.weights import narrowed

TOLERANCE: Tolerance = {torch.float32: 2e-6, torch.bfloat16: 2e-6}


def specified(parts: Tensor) -> Tensor:
    """Into how many partial sums a product is split is the kernel's choice."""
    return parts.sum(0)


@dataclass(frozen=True, slots=True)
class LinearCase:
    """`tokens` [M] rows of `depth` [K] through `features` [N] outputs."""

    tokens: int
    features: int
    depth: int

    @property
    def name(self) -> str:
        """As in `M32-N896-K4864`."""
        return f"M{self.tokens}-N{self.features}-K{self.depth}"

    def splits(self, source: Source) -> int:
        """How many partial sums the kernel leaves."""
        tile = tile_for(self.tokens, source.weights)
        return splits(self.tokens, self.features, self.depth, tile)

    def inputs(self, source: Source) -> dict[str, Any]:
        """Weights scaled as a trained layer's, so that outputs are about one."""
        generator = source.generator()
        x = source.normal(generator, self.tokens, self.depth)
        matrix = source.normal(generator, self.features, self.depth, scale=self.depth**-0.5)
        return {"x": x, "weight": narrowed(matrix, source.weights)}

    def cost(self, source: Source) -> Cost:
        """Weights and activations read once, the partial sums written in fp32."""
        moved = self.features * self.depth * source.weights.itemsize
        moved += self.tokens * self.depth * source.dtype.itemsize
        moved += self.splits(source) * self.tokens * self.features * 4
        return Cost(moved, 2 * self.tokens * self.features * self.depth)


TESTS = (
    LinearCase(1, 1, 1),
    LinearCase(5, 63, 60),
    LinearCase(17, 130, 500),
    LinearCase(33, 96, 576),
    LinearCase(70, 65, 130),
    LinearCase(130, 200, 96),
)
