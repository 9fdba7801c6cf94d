"""Inputs for `predict`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.linear.cases import activations
from mercury_kernels.weights import quantized

TOLERANCE: Tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.int32: 2e-3}
"""Products of bf16 are exact in fp32 and so are summed alike in both dtypes. Among 150,000 logits
some are closer than the tolerance, so their ids may swap."""


@dataclass(frozen=True, slots=True)
class HeadCase:
    """`tokens` [M] hidden states of `depth` [K], a `vocabulary` [V], and `top` candidates.

    Row v of the weight is token `every` · v. If `restricted` is not 0, rows from the second on may
    give only that many tokens.
    """

    tokens: int
    vocabulary: int
    depth: int
    top: int
    every: int = 1
    restricted: int = 0

    @property
    def name(self) -> str:
        """For example `M32-V49153-K576-top16`."""
        shape = f"M{self.tokens}-V{self.vocabulary}-K{self.depth}-top{self.top}"
        shape = shape if self.every == 1 else f"{shape}-every{self.every}"
        return f"{shape}-restricted{self.restricted}" if self.restricted else shape

    def inputs(self, source: Source) -> dict[str, Any]:
        """Logits with a standard deviation of about 4, so that entropies of the rows vary."""
        generator = source.generator()
        x = source.normal(generator, self.tokens, self.depth, scale=4.0)
        matrix = source.normal(generator, self.vocabulary, self.depth, scale=self.depth**-0.5)
        names = None
        if self.every > 1:
            names = source.numbers([self.every * row for row in range(self.vocabulary)])
        inputs = {
            "x": activations(x, source),
            "weight": quantized(matrix, source.weights),
            "top": self.top,
            "vocabulary": names,
        }
        return inputs | self._restriction(source)

    def _restriction(self, source: Source) -> dict[str, Any]:
        """Row 0 may give every token, row i those from `vocabulary` / (i + 2) on."""
        if not self.restricted:
            return {}
        allowed = torch.zeros(self.tokens, self.vocabulary, dtype=torch.bool)
        for row in range(self.tokens):
            first = self.vocabulary // (row + 2)
            allowed[row, first : first + self.restricted] = True
        allowed[0] = True
        return {"allowed": allowed.to(source.device)}

    def cost(self, source: Source) -> Cost:
        """Weights and hidden states are read once; the candidates and two sums are written."""
        moved = self.vocabulary * self.depth * source.weights.itemsize
        moved += self.tokens * self.depth * source.rows.itemsize
        moved += self.tokens * (8 * self.top + 8)
        return Cost(moved, 2 * self.tokens * self.vocabulary * self.depth)


TESTS = (
    HeadCase(1, 1, 1, 1),
    HeadCase(3, 63, 60, 5),
    HeadCase(2, 2100, 100, 16),
    HeadCase(70, 300, 32, 1),
    HeadCase(5, 130, 40, 3, every=3),
    HeadCase(3, 63, 60, 5, restricted=7),
    HeadCase(70, 300, 32, 4, every=2, restricted=150),
)
