"""Inputs for `add_rmsnorm`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance

TOLERANCE: Tolerance = {torch.float32: 1e-6, torch.bfloat16: 8e-3}


@dataclass(frozen=True, slots=True)
class NormCase:
    """`rows` of `width`, the sum of `splits` partial sums."""

    rows: int
    width: int
    splits: int

    @property
    def name(self) -> str:
        """For example `M32-N576-S4`."""
        return f"M{self.rows}-N{self.width}-S{self.splits}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """Partial sums are fp32, as in the results of `linear`."""
        generator = source.generator()
        parts = source.normal(generator, self.splits, self.rows, self.width)
        return {
            "parts": parts.float(),
            "residual": source.normal(generator, self.rows, self.width),
            "weight": source.normal(generator, self.width) + 1,
            "eps": 1e-5,
        }

    def cost(self, source: Source) -> Cost:
        """Parts are read once, the residual is read and written, the result is written."""
        elements = self.rows * self.width
        moved = elements * (4 * self.splits + 3 * source.dtype.itemsize)
        return Cost(moved, elements * (self.splits + 4))


TESTS = (
    NormCase(1, 1, 1),
    NormCase(3, 63, 2),
    NormCase(7, 500, 4),
    NormCase(5, 576, 0),
    NormCase(2, 3584, 1),
)
