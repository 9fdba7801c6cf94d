"""Inputs for `swiglu`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.linear.cases import activations, adapter_cost, gated_adapter
from mercury_kernels.weights import quantized

TOLERANCE: Tolerance = {torch.float32: 2e-6, torch.bfloat16: 8e-3}


@dataclass(frozen=True, slots=True)
class SwigluCase:
    """`tokens` [M] rows of `depth` [K] and `features` [F] outputs."""

    tokens: int
    features: int
    depth: int
    rank: int = 0

    @property
    def name(self) -> str:
        """For example `M32-F4864-K896`."""
        gated = f"-R{self.rank}" if self.rank else ""
        return f"M{self.tokens}-F{self.features}-K{self.depth}{gated}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """Weights scaled so that products have about unit variance."""
        generator = source.generator()
        x = source.normal(generator, self.tokens, self.depth)
        gate, up = (
            source.normal(generator, self.features, self.depth, scale=self.depth**-0.5)
            for _ in range(2)
        )
        return {
            "x": activations(x, source),
            "gate": quantized(gate, source.weights),
            "up": quantized(up, source.weights),
            "gated": gated_adapter(self.tokens, (2 * self.features, self.depth), self.rank, source),
        }

    def cost(self, source: Source) -> Cost:
        """Both matrices and x are read once; the result is written once."""
        moved = 2 * self.features * self.depth * source.weights.itemsize
        moved += self.tokens * self.depth * source.rows.itemsize
        moved += self.tokens * self.features * source.dtype.itemsize
        plain = Cost(moved, 4 * self.tokens * self.features * self.depth)
        return plain + adapter_cost(self.tokens, (2 * self.features, self.depth), self.rank, source)


TESTS = (
    SwigluCase(1, 1, 1),
    SwigluCase(5, 63, 60),
    SwigluCase(33, 130, 500),
    SwigluCase(70, 65, 130),
    SwigluCase(130, 66, 96),
    SwigluCase(33, 70, 100, rank=5),
    SwigluCase(7, 65, 60, rank=70),
)
