"""What a set of weights is, as data: its architecture, and the format its training taught it.

Nothing here reads files; `checkpoint` and `sources` do.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class CacheTrust:
    """How much a cache language model counts beside these weights: the terms of its log odds.

    `always`, `length` times the logarithm of the bytes in common, `agreed` times the share of the
    token of the greatest weight, `sure` times the highest probability of the network.
    """

    always: float
    length: float
    agreed: float
    sure: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the product of the tokens' probabilities to the chance that a text is right.

    The log odds of the one are `slope` times those of the other, and `bias` (Platt 1999).
    """

    slope: float = 1.0
    bias: float = 0.0

    def __call__(self, product: float) -> float:
        """The chance, in [0, 1]; what is certain stays so."""
        if not 0 < product < 1:
            return product
        odds = self.slope * math.log(product / (1 - product)) + self.bias
        return 1 / (1 + math.exp(-odds))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything the server must know about a model, read from the metadata of its weights."""

    name: str
    architecture: ModelConfig
    infill: FimFormat
    licence: str
    description: str
    cache_trust: CacheTrust | None = None
    calibration: Calibration = Calibration()

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON header."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """The inverse of `to_json`. Raises TypeError or KeyError for unknown or missing fields."""
        infill = dict(raw["infill"])
        infill["languages"] = tuple(infill["languages"])
        infill["stop_ids"] = tuple(infill.get("stop_ids", ()))
        trust = raw.get("cache_trust")
        parts = {"architecture", "infill", "cache_trust", "calibration"}
        known = {field.name for field in fields(cls)} - parts
        return cls(
            architecture=ModelConfig(**raw["architecture"]),
            infill=FimFormat(**infill),
            cache_trust=CacheTrust(**trust) if trust else None,
            calibration=Calibration(**raw.get("calibration", {})),
            **{name: raw[name] for name in known},
        )
