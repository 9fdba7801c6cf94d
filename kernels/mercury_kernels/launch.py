"""One kernel launch as a value, which can be run, recorded, compiled ahead of time, or counted.

A wrapper builds its launches from its tensors only and passes each one to `submit`. So a GPU runs
the very launches that tests compile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel, its grid (programs in x, y, z), and its arguments by name, with constants."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int = 4
    stages: int = 1

    @property
    def name(self) -> str:
        """The name of the kernel."""
        return str(self.kernel.__name__)


Submit = Callable[[Launch], None]


def run(launch: Launch) -> None:
    """Launch on the current stream of the device, without waiting."""
    launch.kernel[launch.grid](**launch.arguments, num_warps=launch.warps, num_stages=launch.stages)
