"""What a step and a probe report: sums that add up over examples, and the ratios of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch

from mercury_model.training.collate import MOST_MASKS, Packed
from mercury_model.training.objective import Head

FAR = MOST_MASKS + 1


@dataclass(slots=True)
class Tally:
    """Sums over middle rows and over masks by distance (index 1 is the first mask)."""

    rows: int = 0
    middle: int = 0
    loss: float = 0.0
    right: int = 0
    blocks: int = 0
    drafted: int = 0
    masks: torch.Tensor = field(default_factory=lambda: torch.zeros(FAR))
    mask_loss: torch.Tensor = field(default_factory=lambda: torch.zeros(FAR))
    agreed: torch.Tensor = field(default_factory=lambda: torch.zeros(FAR))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def report(self) -> dict[str, object]:
        """Means, rounded: what goes into the log.

        `drafted`: how many masks in a row, from the left, agree with the autoregressive head;
        `agreement` and `mask_loss` by distance.
        """
        each = self.masks[1:].clamp(min=1)
        return {
            "loss": round(self.loss / max(1, self.middle), 4),
            "accuracy": round(self.right / max(1, self.middle), 4),
            "drafted": round(self.drafted / max(1, self.blocks), 4),
            "agreement": _rounded(self.agreed[1:] / each),
            "mask_loss": _rounded(self.mask_loss[1:] / each),
        }


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(v, 4) for v in values.tolist()]


def tally(packed: Packed, clean: Head, masks: Head) -> Tally:
    """The sums of one example."""
    middle = packed.is_middle
    known = (packed.teacher >= 0) & (packed.distance > 0)
    agrees = (masks.ids[:, 0] == clean.ids[packed.teacher.clamp(min=0), 0]) & known
    distance = packed.distance * known
    size = FAR
    return Tally(
        rows=len(packed.clean.ids) + len(packed.masks.ids),
        middle=int(middle.sum()),
        loss=float(-clean.target_logprob[middle].sum()),
        right=int((clean.ids[:, 0] == packed.clean_targets)[middle].sum()),
        blocks=int((distance == 1).sum()),
        drafted=_runs(distance.tolist(), agrees.tolist()),
        masks=torch.bincount(distance.cpu(), minlength=size).float(),
        mask_loss=torch.bincount(
            distance.cpu(), weights=-masks.target_logprob.float().cpu(), minlength=size
        ).float(),
        agreed=torch.bincount(distance.cpu(), weights=agrees.float().cpu(), minlength=size).float(),
    )


def _runs(distances: Sequence[int], agrees: Sequence[bool]) -> int:
    """How many masks agree with all of their block before them agreeing too."""
    total, unbroken = 0, False
    for distance, agree in zip(distances, agrees, strict=True):
        unbroken = agree and distance > 0 and (unbroken or distance == 1)
        total += unbroken
    return total
