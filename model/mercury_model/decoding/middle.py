"""The middle of a request: committed tokens, then open positions.

Knows token ids, their text, and where a text ends. No network, no policy, no time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mercury_model.decoding.output import FinishReason, PartialOutput


@dataclass(frozen=True, slots=True)
class StopCriteria:
    """When a middle ends: at one of `end_ids`, before a `stop` string, or after `limit` tokens.

    `mask_id` stands at open positions; `decode` turns ids into the text that they add.
    """

    end_ids: frozenset[int]
    mask_id: int
    limit: int
    stop: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]


class Middle:
    """Tokens by position. Committed tokens stay; an end mark drops all positions right of it."""

    def __init__(self, stopping: StopCriteria) -> None:
        self._stopping = stopping
        self._ids: list[int] = []
        self._committed: list[bool] = []
        self._confidences: list[float] = []
        self._ends: list[int] = []  # text ends of the committed run, which never change

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def remaining(self) -> int:
        """The number of positions that may still be added."""
        return self._stopping.limit - len(self._ids)

    def ids(self, start: int) -> list[int]:
        """The ids from position `start` on, masks at open positions."""
        return self._ids[start:]

    def open(self, start: int) -> list[bool]:
        """Which positions from `start` on are not committed."""
        return [not committed for committed in self._committed[start:]]

    def add_masks(self, count: int) -> None:
        """Open `count` positions at the right, or as many as the limit leaves."""
        for _ in range(min(count, self.remaining)):
            self._append(self._stopping.mask_id, 0.0, committed=False)

    def add_draft(self, token: int, confidence: float) -> None:
        """Add a token that may still change at the right."""
        self._append(token, confidence, committed=False)

    def add(self, token: int, confidence: float) -> None:
        """Add a committed token at the right."""
        self._append(token, confidence, committed=True)

    def commit(self, position: int, token: int, confidence: float) -> None:
        """Commit a token to an open position; positions right of an end mark are ignored."""
        if position >= len(self._ids):
            return
        self._ids[position] = token
        self._committed[position] = True
        self._confidences[position] = confidence
        if token in self._stopping.end_ids:
            self.cut(position + 1)

    def confidences(self, start: int) -> list[float]:
        """The probabilities of the tokens from position `start` on, 0 where open."""
        return self._confidences[start:]

    def reopen(self, position: int) -> None:
        """Put a mask in the place of a committed token."""
        self._ids[position] = self._stopping.mask_id
        self._committed[position] = False
        self._confidences[position] = 0.0

    def cut(self, length: int) -> None:
        """Drop every position from `length` on."""
        del self._ids[length:], self._committed[length:], self._confidences[length:]

    def draft(self, steps: int, prefill: int) -> PartialOutput:
        """A snapshot; it is finished if the committed run at the left ends the text."""
        count, text, reason = self._run()
        if reason is None:
            count = len(self._ids)
        return PartialOutput(
            ids=tuple(self._ids[:count]),
            committed=tuple(self._committed[:count]),
            confidences=tuple(self._confidences[:count]),
            text=text,
            finished=reason is not None,
            reason=reason,
            steps=steps,
            prefill=prefill,
            ending=self._ending(count, text, reason),
            ends=self._text_ends(count),
        )

    def _append(self, token: int, confidence: float, *, committed: bool) -> None:
        self._ids.append(token)
        self._committed.append(committed)
        self._confidences.append(confidence)

    def _text_ends(self, count: int) -> tuple[int, ...]:
        """The ends, in the text, of the committed run within the first `count` tokens."""
        run = min(count, [*self._committed, False].index(False))
        for length in range(len(self._ends) + 1, run + 1):
            self._ends.append(len(self._stopping.decode(self._ids[:length])))
        return tuple(self._ends[:run])

    def _run(self) -> tuple[int, str, FinishReason | None]:
        """The committed run: how many of its tokens have text, the text, and why it ends."""
        stopping = self._stopping
        run = self._ids[: ([*self._committed, False]).index(False)]
        reason: FinishReason | None = "length" if len(run) >= stopping.limit else None
        run = run[: stopping.limit]
        ended = next((at for at, token in enumerate(run) if token in stopping.end_ids), None)
        if ended is not None:
            run, reason = run[:ended], "end"
        text = stopping.decode(run)
        stops = [at for at in map(text.find, stopping.stop) if at >= 0]
        if stops:
            text = text[: min(stops)]
            return self._tokens_of(text, run), text, "stop"
        if reason is None:
            text = text[: len(text) - _held_back(text, stopping.stop)]
        return len(run), text, reason

    def _ending(self, count: int, text: str, reason: FinishReason | None) -> float:
        """The probability of the token behind the first `count`, if that token ended the text."""
        if reason not in ("end", "stop") or len(self._stopping.decode(self._ids[:count])) > len(
            text
        ):
            return 1.0
        return self._confidences[count]

    def _tokens_of(self, text: str, run: Sequence[int]) -> int:
        """The fewest tokens of `run` whose text contains `text`."""
        return next(
            n for n in range(len(run) + 1) if len(self._stopping.decode(run[:n])) >= len(text)
        )


def _held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string."""
    longest = max(map(len, stops), default=0)
    for length in range(min(longest - 1, len(text)), 0, -1):
        if any(len(stop) > length and stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
