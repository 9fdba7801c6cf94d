"""What a configuration takes, part by part. All in bytes; shown in GB of 10⁹ and MB of 10⁶ bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

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

    def __add__(self, more: Mapping[str, int]) -> "Footprint":
        """With more parts, or more of the same."""
        both = dict(self.parts)
        for name, count in more.items():
            both[name] = both.get(name, 0) + count
        return Footprint(self.libraries, MappingProxyType(both))


def readable(count: int) -> str:
    """`count` bytes for a person: three digits or so."""
    if count >= 10 * GB:
        return f"{count / GB:.1f} GB"
    return f"{count / GB:.2f} GB" if count >= GB else f"{count / MB:.0f} MB"
