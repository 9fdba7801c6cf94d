"""What a configuration takes, part by part, in bytes; people read GB of 10⁹ and MB of 10⁶ bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

GB = 1_000_000_000
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes by part, at the moment when most are in use.

    `libraries` is what the process takes before it has a model: it is part of `peak`, but not of
    `growth`, which is what a process that has imported everything grows by.
    """

    libraries: int
    parts: Mapping[str, int]

    @property
    def growth(self) -> int:
        """Without the libraries."""
        return sum(self.parts.values())

    @property
    def peak(self) -> int:
        """Everything."""
        return self.libraries + self.growth


def readable(count: int) -> str:
    """`count` bytes for a person: three digits or so."""
    if count >= 10 * GB:
        return f"{count / GB:.1f} GB"
    return f"{count / GB:.2f} GB" if count >= GB else f"{count / MB:.0f} MB"
