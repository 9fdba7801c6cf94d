"""The time budget of a request. It decides whether another step may begin."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A deadline and a stop flag.

    `deadline_ns` and `clock` count nanoseconds from the same origin. `stopped` is called between
    steps, never during one.
    """

    deadline_ns: int
    clock: Callable[[], int]
    stopped: Callable[[], bool] = lambda: False

    def more(self) -> bool:
        """Whether a step may begin now."""
        return not self.stopped() and self.clock() < self.deadline_ns
