"""The output of decoding: a gap as far as it is filled."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """The gap as far as it is filled.

    `ids` are the tokens so far and those of the current block, with the mask id at open positions;
    a token that is not `committed` may still change. `confidences` are the probabilities of the
    tokens, 0 where open. `text` is decoded from the committed run at the left, and only ever grows;
    `ends` are the ends, in its characters, of the tokens of that run. The first tokens may spell
    what the context owes (see `healing`): it is no part of `text`, and they end at 0.

    Once `finished`, `ids` are the tokens of `text` alone, without the end mark, and `ending` is the
    probability of the token that ended it: the end mark, or the token that begins the stop string,
    1 where that token also holds text before it. `steps` counts network calls after the context was
    complete, `prefill` those before.
    """

    ids: tuple[int, ...]
    committed: tuple[bool, ...]
    confidences: tuple[float, ...]
    text: str
    finished: bool
    reason: FinishReason | None
    steps: int
    prefill: int
    ending: float = 1.0
    ends: tuple[int, ...] = ()
