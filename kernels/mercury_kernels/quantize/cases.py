"""Inputs for `quantize`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance

TOLERANCE: Tolerance = {torch.float32: 1e-6, torch.bfloat16: 1e-6, torch.float8_e4m3fn: 7e-2}
"""A number halfway between two of e4m3 may round either way: the division of a GPU is inexact."""


@dataclass(frozen=True, slots=True)
class QuantizeCase:
    """`tokens` [M] rows of `depth` [K]."""

    tokens: int
    depth: int

    @property
    def name(self) -> str:
        """For example `M256-K3584`."""
        return f"M{self.tokens}-K{self.depth}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """Normal numbers; the first row is all zeros."""
        x = source.normal(source.generator(), self.tokens, self.depth)
        x[:1] = 0
        return {"x": x}

    def cost(self, source: Source) -> Cost:
        """Activations are read once and written once."""
        elements = self.tokens * self.depth
        return Cost(elements * (source.dtype.itemsize + 1) + 4 * self.tokens, 2 * elements)


TESTS = (QuantizeCase(1, 1), QuantizeCase(3, 63), QuantizeCase(5, 576), QuantizeCase(2, 5000))
