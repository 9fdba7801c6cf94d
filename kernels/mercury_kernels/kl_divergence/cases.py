"""Inputs for `kl_divergence`."""

from dataclasses import dataclass
from typing import Any

import torch

from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.head.reference import Predicted
from mercury_kernels.kl_divergence.reference import NO_PREDICTION, PreviousPredictions

TOLERANCE: Tolerance = {torch.float32: 1e-6, torch.bfloat16: 1e-6}

VOCABULARY = 40


@dataclass(frozen=True, slots=True)
class KlDivergenceCase:
    """A block of `length` for each of `begun` [B]: whether it had a step before."""

    begun: tuple[bool, ...]
    length: int
    top: int
    shift: int = 0

    @property
    def name(self) -> str:
        """For example `B2-T32-top16-shift1`."""
        return f"B{len(self.begun)}-T{self.length}-top{self.top}-shift{self.shift}"

    def inputs(self, source: Source) -> dict[str, Any]:
        """Two steps over a small vocabulary: rows share some candidates, every fourth row all."""
        generator = source.generator()
        shape = (len(self.begun), self.length, self.top)
        places = shape[0] * shape[1]

        def step() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            order = torch.rand(places, VOCABULARY, generator=generator).argsort(-1)
            logits = torch.randn(places, self.top, generator=generator).mul(2)
            rest = torch.rand(places, generator=generator)
            lse = logits.logsumexp(-1) + 0.05 + rest
            return order[:, : self.top].int(), logits.sort(descending=True)[0], lse

        (ids, logits, lse), (were, old, total) = step(), step()
        were[::4] = ids[::4]
        known = (old - total[:, None]).exp()
        none = ~torch.tensor(self.begun)[:, None, None]
        return {
            "predicted": Predicted(
                ids.contiguous().to(source.device),
                logits.to(source.device),
                lse.to(source.device),
                torch.zeros(places).to(source.device),
            ),
            "previous": PreviousPredictions(
                were.view(shape).masked_fill(none, NO_PREDICTION).to(source.device),
                known.view(shape).to(source.device),
            ),
            "shift": self.shift,
        }

    def cost(self, source: Source) -> Cost:
        """The candidates of both steps are read once, those of one are written."""
        places = len(self.begun) * self.length
        return Cost(places * (24 * self.top + 8), places * self.top * (2 * self.top + 40))


TESTS = (
    KlDivergenceCase((True,), 1, 1),
    KlDivergenceCase((True, False), 5, 7),
    KlDivergenceCase((False, True, True), 9, 16, shift=1),
    KlDivergenceCase((True,), 63, 5, shift=2),
)
