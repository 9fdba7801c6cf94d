"""Which request takes the next step. Knows no model and no thread; time is an argument.

The more urgent priority comes first, then the earlier deadline, then the longest wait.
A request that has waited for `patience_ns` goes before all others, whatever its priority.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mercury_model.serving import Priority


@dataclass(frozen=True, slots=True)
class Turn:
    """A step that could be taken now; its request has waited for it since `since_ns`."""

    priority: Priority
    deadline_ns: int | None
    since_ns: int
    number: int
    take: Callable[[], None]


def most_urgent(turns: Sequence[Turn], now_ns: int, patience_ns: int) -> Turn | None:
    """The turn to take next; None if there is none."""
    if not turns:
        return None
    oldest = min(turns, key=lambda turn: (turn.since_ns, turn.number))
    if now_ns - oldest.since_ns >= patience_ns:
        return oldest
    return min(turns, key=_urgency)


def _urgency(turn: Turn) -> tuple[int, float, int, int]:
    deadline = math.inf if turn.deadline_ns is None else turn.deadline_ns
    return turn.priority, deadline, turn.since_ns, turn.number
