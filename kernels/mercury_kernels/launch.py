"""One kernel launch as a value: run now, recorded, compiled ahead of time, or counted.

A wrapper builds its launches from its tensors alone and hands each to `submit`. That the same
launches are run on a GPU, compiled in the tests and replayed by a graph is thus by construction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel, its grid (programs in x, y, z), and its arguments by name, constants included."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int = 4
    stages: int = 1

    @property
    def name(self) -> str:
        """The kernel's own name."""
        return str(self.kernel.__name__)


Submit = Callable[[Launch], None]


def run(launch: Launch) -> None:
    """Launch on the current stream of the arguments' device; nothing is waited for."""
    launch.kernel[launch.grid](**launch.arguments, num_warps=launch.warps, num_stages=launch.stages)
