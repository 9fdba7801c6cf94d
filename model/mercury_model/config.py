"""What a set of weights is, as data: its architecture, and the format its training taught it.

Nothing here reads files; `checkpoint` and `sources` do.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama-shaped decoder. Qwen2 adds `qkv_bias`, Qwen3 `qk_norm`; sizes in units, not bytes."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    rope_theta: float
    norm_eps: float = 1e-5
    tied_head: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False

    @property
    def can_be_adapted(self) -> bool:
        """Whether training covers it: a tied head, no biases, heads that are not normed."""
        return self.tied_head and not self.qkv_bias and not self.qk_norm

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """[out, in] of the matrices of a layer: query, key, value, output; gate, up, down."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        return {
            "q": (queries, self.width),
            "k": (keys, self.width),
            "v": (keys, self.width),
            "o": (self.width, queries),
            "g": (self.mlp_width, self.width),
            "u": (self.mlp_width, self.width),
            "d": (self.width, self.mlp_width),
        }

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, in fp32."""
        return self.layers * 2 * self.kv_heads * self.head_width * 4


@dataclass(frozen=True, slots=True)
class InfillFormat:
    """How the weights were taught to fill a gap.

    A sequence is `[suffix_id] suffix [prefix_id] prefix [middle_id] middle [end_id]`.

    `shift`: the output at position j predicts token j + 1, as in the autoregressive base; the
    first position of a block is then given by the context. Limits are in tokens. `file_tokens`:
    how much text of other files was part of training, 0 for none; each begins with `file_id` and
    its path, and all come before the suffix mark.
    """

    suffix_id: int
    prefix_id: int
    middle_id: int
    end_id: int
    mask_id: int
    block_length: int
    prefix_tokens: int
    suffix_tokens: int
    middle_tokens: int
    shift: bool
    languages: tuple[str, ...]
    file_id: int = -1
    file_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CacheTrust:
    """How much a cache language model counts beside these weights: the terms of its log odds.

    `always`, `length` times the logarithm of the bytes in common, `agreed` times the share of the
    token that has most votes, `sure` times the highest probability of the network.
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
    infill: InfillFormat
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
        trust = raw.get("cache_trust")
        parts = {"architecture", "infill", "cache_trust", "calibration"}
        known = {field.name for field in fields(cls)} - parts
        return cls(
            architecture=ModelConfig(**raw["architecture"]),
            infill=InfillFormat(**infill),
            cache_trust=CacheTrust(**trust) if trust else None,
            calibration=Calibration(**raw.get("calibration", {})),
            **{name: raw[name] for name in known},
        )
