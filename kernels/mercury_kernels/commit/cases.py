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
"""Values are multiples of 1 / 64, so that their sums are exact and ties occur."""

MAX_KL = 0.5


@dataclass(frozen=True, slots=True)
class CommitCase:
    """Blocks of `length`; a share `masked` [B] of the positions is masked."""

    masked: tuple[float, ...]
    length: int
    kind: Kind
    bound: float
    floor: float = 0.0

    @property
    def name(self) -> str:
        """For example `B3-T12-entropy0.5-floor0.2`."""
        floor = f"-floor{self.floor}" if self.floor else ""
        return f"B{len(self.masked)}-T{self.length}-{self.kind}{self.bound}{floor}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """A random state in the middle of denoising."""
        generator = source.generator()
        shape = (len(self.masked), self.length)

        def values(largest: int) -> torch.Tensor:
            drawn = torch.randint(largest * STEPS + 1, shape, generator=generator)
            return (drawn / STEPS).to(source.device)

        where = torch.rand(shape, generator=generator) < torch.tensor(self.masked)[:, None]
        ids = torch.randint(10, 30, shape, generator=generator).masked_fill(where, MASK)
        tokens = torch.randint(10, 30, shape, generator=generator)
        bound, floor = (
            source.numbers([number] * shape[0], torch.float32)
            for number in (self.bound, self.floor)
        )
        if self.kind == "count":
            bound = source.numbers([max(1, int(self.bound))] * (self.length + 1))
        committed = values(1)
        choices = Choices(tokens.int().to(source.device), values(1), values(3))
        policy = Policy(self.kind, bound, floor)
        if self.kind == "klass":
            choices = replace(choices, kl=values(1))
            policy = replace(policy, max_kl=source.numbers([MAX_KL] * shape[0], torch.float32))
        return {
            "ids": ids.int().to(source.device),
            "committed": committed,
            "choices": choices,
            "policy": policy,
            "mask_id": MASK,
            "remaining": source.numbers([-1] * shape[0]),
        }

    def cost(self, source: Source) -> Cost:
        """Every value is read once."""
        places = len(self.masked) * self.length
        bytes_each = 32 if self.kind == "klass" else 28
        return Cost(bytes_each * places, 4 * places * self.length)


KINDS: tuple[tuple[Kind, float], ...] = (
    ("threshold", 0.75),
    ("klass", 0.5),
    ("entropy", 0.5),
    ("count", 3),
)
TESTS = tuple(
    CommitCase(masked, length, kind, bound, floor)
    for kind, bound in KINDS
    for masked, length, floor in (
        ((1.0,), 1, 0.0),
        ((0.0, 0.5, 1.0), 12, 0.0),
        ((0.2, 0.7), 33, 0.5),
        ((0.6,), 200, 0.5),
    )
)
