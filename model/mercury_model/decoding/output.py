"""What decoding yields: a gap as far as it is filled."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """The gap as far as it is filled.

    `ids` are the tokens so far and those of the block at work, with the mask id where a position
    is open; what is not `committed` may still change. `confidences` are the probabilities of the
    tokens, 0 where open. `text` is decoded from the settled run at the left and never takes
    anything back. Once `finished`, `ids` are the tokens of `text` alone, without the end mark, and
    `ending` is the probability of what ended it: of that mark, or of the token that begins the stop
    string, 1 where that is none of its own. `steps` counts network calls after the context was
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
