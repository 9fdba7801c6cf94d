"""How long a request may go on: the one answer to "may I take another step?"."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A deadline on a clock, and a stop flag that somebody else may raise.

    `deadline_ns` and `clock` count nanoseconds from the same origin; `stopped` is called between
    steps, never during one.
    """

    deadline_ns: int
    clock: Callable[[], int]
    stopped: Callable[[], bool] = lambda: False

    def more(self) -> bool:
        """Whether a step may begin now."""
        return not self.stopped() and self.clock() < self.deadline_ns
