"""How to fill a gap: the settings of one infill. Data only."""

from dataclasses import dataclass
from typing import Literal

from mercury_model.decoding import unmasking

Mode = Literal["diffusion", "autoregressive", "verified"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to fill a gap.

    `quality_speed_tradeoff` in [0, 1] trades steps for quality in diffusion mode, as `unmask.dial`
    does; a `policy` says itself what each step commits, and `remask` what of it is masked again.
    The text ends before any of the `stop` strings, and after `max_tokens` or what the weights were
    trained for. `rank` begins with the rank-th likeliest token. `temperature` 0 takes the likeliest
    tokens; above, the same `seed` gives the same drafts.

    `mode`: "diffusion" settles a block of tokens over several steps; "autoregressive" one token a
    step, left to right; "verified" checks guesses, drafted by denoising or looked up in the
    context, each step those of the one before, and gives the autoregressive text.

    `repeats`: in causal predictions the cache language model counts as far as the card says.
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
