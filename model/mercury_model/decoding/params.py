"""How to fill a gap: the settings of one infill. Data only."""

from dataclasses import dataclass
from typing import Literal

from mercury_model.decoding import unmasking

Mode = Literal["diffusion", "autoregressive", "verified"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to fill a gap.

    `quality_speed_tradeoff` in [0, 1] trades quality for fewer steps in diffusion mode (see
    `unmasking.dial`). A `policy` replaces it; `remask` masks committed tokens again. The text ends
    before any of the `stop` strings, and after `max_tokens` or the longest middle of the format.
    `rank` begins with the rank-th likeliest token. Temperature 0 takes the likeliest tokens; above
    0, the same `seed` gives the same drafts.

    `mode`: "diffusion" commits a block of tokens over several steps; "autoregressive" commits one
    token a step, left to right; "verified" checks draft tokens, made by denoising or by lookup, and
    gives the autoregressive text.

    `repeats`: the cache language model takes part in causal predictions, as the card says.
    """

    quality_speed_tradeoff: float = 0.5
    max_tokens: int = 60
    stop: tuple[str, ...] = ()
    rank: int = 0
    temperature: float = 0.0
    seed: int = 0
    mode: Mode = "diffusion"
    policy: unmasking.Policy | None = None
    remask: unmasking.Remask | None = None
    repeats: bool = True
