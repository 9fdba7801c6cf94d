"""Inputs for `commit`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.choose.reference import Choices
from mercury_kernels.commit.reference import Kind, Policy

TOLERANCE: Tolerance = {torch.float32: 0.0, torch.bfloat16: 0.0}

MASK = 9
STEPS = 64
"""Figures are multiples of 1 / 64: their sums are exact, and there are ties."""


@dataclass(frozen=True, slots=True)
class CommitCase:
    """Blocks of `length`, with a share of `opened` positions [B]; `floor` reopens below it."""

    opened: tuple[float, ...]
    length: int
    kind: Kind
    bound: float
    floor: float | None = None

    @property
    def name(self) -> str:
        """As in `B3-T12-entropy0.5-floor0.2`."""
        floor = "" if self.floor is None else f"-floor{self.floor}"
        return f"B{len(self.opened)}-T{self.length}-{self.kind}{self.bound}{floor}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """A random state in the middle of denoising."""
        generator = source.generator()
        shape = (len(self.opened), self.length)

        def figures(largest: int) -> torch.Tensor:
            drawn = torch.randint(largest * STEPS + 1, shape, generator=generator)
            return (drawn / STEPS).to(source.device)

        masked = torch.rand(shape, generator=generator) < torch.tensor(self.opened)[:, None]
        ids = torch.randint(10, 30, shape, generator=generator).masked_fill(masked, MASK)
        tokens = torch.randint(10, 30, shape, generator=generator)
        bound = source.numbers([self.bound] * shape[0], torch.float32)
        if self.kind == "count":
            bound = source.numbers([max(1, int(self.bound))] * (self.length + 1))
        floor = None
        if self.floor is not None:
            floor = source.numbers([self.floor] * shape[0], torch.float32)
        return {
            "ids": ids.int().to(source.device),
            "choices": Choices(tokens.int().to(source.device), figures(1), figures(3), figures(1)),
            "policy": Policy(self.kind, bound),
            "mask_id": MASK,
            "floor": floor,
            "left": source.numbers([-1] * shape[0]),
        }

    def cost(self, source: Source) -> Cost:
        """Every figure read once; small whatever it does."""
        places = len(self.opened) * self.length
        return Cost(24 * places, 4 * places * self.length)


KINDS: tuple[tuple[Kind, float], ...] = (("threshold", 0.75), ("entropy", 0.5), ("count", 3))
TESTS = tuple(
    CommitCase(opened, length, kind, bound, floor)
    for kind, bound in KINDS
    for opened, length, floor in (
        ((1.0,), 1, None),
        ((0.0, 0.5, 1.0), 12, None),
        ((0.2, 0.7), 33, 0.5),
        ((0.6,), 200, 0.5),
    )
)
