"""Inputs for `choose`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.choose.reference import SamplingTensors
from mercury_kernels.head.reference import Predicted

TOLERANCE: Tolerance = {torch.float32: 1e-6, torch.bfloat16: 1e-6}

VOCABULARY = 40
FORBIDDEN = (0, 3, 17)


@dataclass(frozen=True, slots=True)
class ChooseCase:
    """A block of `length` for each of `temperatures` [B]; each row has `top` candidates."""

    temperatures: tuple[float, ...]
    length: int
    top: int
    shift: int = 0
    ranks: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """For example `B2-T32-top16-shift1`."""
        return f"B{len(self.temperatures)}-T{self.length}-top{self.top}-shift{self.shift}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """Distinct candidates in order, from a vocabulary small enough to hit forbidden ids."""
        generator = source.generator()
        batch = len(self.temperatures)
        rows = batch * self.length
        order = torch.rand(rows, VOCABULARY, generator=generator).argsort(-1)[:, : self.top]
        logits = torch.randn(rows, self.top, generator=generator).mul(2).sort(descending=True)[0]
        ids = torch.randint(VOCABULARY, (batch, self.length), generator=generator)
        seeds = torch.randint(2**62, (batch,), generator=generator)
        lse = logits.logsumexp(-1) + 0.1
        predicted = Predicted(
            order.int().contiguous().to(source.device),
            logits.to(source.device),
            lse.to(source.device),
            torch.rand(rows, generator=generator).to(source.device),
        )
        sampling = SamplingTensors(
            seeds.to(source.device),
            source.numbers([32 * b for b in range(batch)]),
            source.numbers(self.temperatures, torch.float32),
            source.numbers(self.ranks or (0,) * batch),
        )
        return {
            "predicted": predicted,
            "ids": ids.int().to(source.device),
            "sampling": sampling,
            "forbidden": source.numbers(FORBIDDEN),
            "eos_id": 2,
            "shift": self.shift,
        }

    def cost(self, source: Source) -> Cost:
        """Every candidate is read once."""
        rows = len(self.temperatures) * self.length
        return Cost(rows * (8 * self.top + 28), rows * self.top * (self.top + 100))


TESTS = (
    ChooseCase((0.0,), 1, 1),
    ChooseCase((0.0, 1.0), 5, 7, ranks=(2, 40)),
    ChooseCase((0.7, 0.0, 1.5), 9, 16, shift=1),
)
