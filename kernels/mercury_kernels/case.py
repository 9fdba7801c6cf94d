"""One set of inputs for an operation: what tests check, the bench times and the compiler sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operation must move and compute: bytes to and from memory, floating-point work."""

    bytes: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        """Both, one after the other."""
        return Cost(self.bytes + other.bytes, self.flops + other.flops)

    def times(self, count: int) -> "Cost":
        """The same work, `count` times."""
        return Cost(self.bytes * count, self.flops * count)


class Case(Protocol):
    """The shape of one call."""

    @property
    def name(self) -> str:
        """Spells the shape, for test ids and tables."""

    def inputs(self, source: "Source") -> dict[str, Any]:
        """Arguments by name, the same every time for the same source."""

    def cost(self, source: "Source") -> Cost:
        """Counted from the shapes: every input read once, every output written once."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the tensors of a case come from: device, types, seed. None: the activations' type.

    `row_dtype` is that of the activations that products take.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    weight_dtype: torch.dtype | None = None
    cache_dtype: torch.dtype | None = None
    row_dtype: torch.dtype | None = None
    seed: int = 0

    @property
    def weights(self) -> torch.dtype:
        """The type that weights are stored in."""
        return self.weight_dtype or self.dtype

    @property
    def rows(self) -> torch.dtype:
        """The type of the activations that products take."""
        return self.row_dtype or self.dtype

    def generator(self) -> torch.Generator:
        """A fresh generator of the CPU."""
        return torch.Generator().manual_seed(self.seed)

    def normal(self, generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers in the activation type; large ones are drawn where they are needed."""
        if self.device == "meta":
            return torch.empty(shape, dtype=self.dtype, device="meta")
        seed = int(torch.randint(2**62, (), generator=generator))
        own = torch.Generator(self.device).manual_seed(seed)
        drawn = torch.randn(shape, generator=own, device=self.device)
        return drawn.mul_(scale).to(self.dtype)

    def numbers(self, values: object, dtype: torch.dtype = torch.int32) -> Tensor:
        """These very numbers, on the device."""
        return torch.tensor(values, dtype=dtype).to(self.device)


Tolerance = Mapping[torch.dtype, float]
"""The largest difference allowed, relative to the reference's largest magnitude, by type; for
whole numbers the largest share that may differ, none unless given."""
