"""Inputs for `commit`."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.choose.reference import Choices
from mercury_kernels.commit.reference import Kind, Policy

TOLERANCE: Tolerance = {torch.float32: 0.0, torch.bfloat16: 0.0}

MASK = 9
STEPS = 64
"""Figures are multiples of 1 / 64: their sums are exact, and there are ties."""

NATS = 0.5
"""How far a prediction must not have moved."""


@dataclass(frozen=True, slots=True)
class CommitCase:
    """Blocks of `length`, with a share of `opened` positions [B]; below `floor` they reopen."""

    opened: tuple[float, ...]
    length: int
    kind: Kind
    bound: float
    floor: float = 0.0

    @property
    def name(self) -> str:
        """As in `B3-T12-entropy0.5-floor0.2`."""
        floor = f"-floor{self.floor}" if self.floor else ""
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
        bound, floor = (
            source.numbers([value] * shape[0], torch.float32) for value in (self.bound, self.floor)
        )
        if self.kind == "count":
            bound = source.numbers([max(1, int(self.bound))] * (self.length + 1))
        committed = figures(1)
        choices = Choices(tokens.int().to(source.device), figures(1), figures(3))
        policy = Policy(self.kind, bound, floor)
        if self.kind == "klass":
            choices = replace(choices, moved=figures(1))
            policy = replace(policy, nats=source.numbers([NATS] * shape[0], torch.float32))
        return {
            "ids": ids.int().to(source.device),
            "committed": committed,
            "choices": choices,
            "policy": policy,
            "mask_id": MASK,
            "left": source.numbers([-1] * shape[0]),
        }

    def cost(self, source: Source) -> Cost:
        """Every figure read once; small whatever it does."""
        places = len(self.opened) * self.length
        figures = 32 if self.kind == "klass" else 28
        return Cost(figures * places, 4 * places * self.length)


KINDS: tuple[tuple[Kind, float], ...] = (
    ("threshold", 0.75),
    ("klass", 0.5),
    ("entropy", 0.5),
    ("count", 3),
)
TESTS = tuple(
    CommitCase(opened, length, kind, bound, floor)
    for kind, bound in KINDS
    for opened, length, floor in (
        ((1.0,), 1, 0.0),
        ((0.0, 0.5, 1.0), 12, 0.0),
        ((0.2, 0.7), 33, 0.5),
        ((0.6,), 200, 0.5),
    )
)
