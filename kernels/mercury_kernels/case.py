"""One set of inputs of an operation, for the tests, the benchmark and the compiler."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Cost:
    """The memory traffic in bytes and the floating-point operations of an operation."""

    bytes: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(self.bytes + other.bytes, self.flops + other.flops)

    def times(self, count: int) -> "Cost":
        """The cost of `count` repetitions."""
        return Cost(self.bytes * count, self.flops * count)


class Case(Protocol):
    """The shape of one call."""

    @property
    def name(self) -> str:
        """The shape as text, for test ids and tables."""

    def inputs(self, source: "Source") -> dict[str, Any]:
        """The arguments by name; the same source always gives the same values."""

    def cost(self, source: "Source") -> Cost:
        """Counted from the shapes: every input is read once, every output written once."""


@dataclass(frozen=True, slots=True)
class Source:
    """The device, dtypes and seed of the tensors of a case; None means the activation dtype.

    `row_dtype` is the dtype of the activations that products read.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    weight_dtype: torch.dtype | None = None
    cache_dtype: torch.dtype | None = None
    row_dtype: torch.dtype | None = None
    seed: int = 0

    @property
    def weights(self) -> torch.dtype:
        """The dtype of weights."""
        return self.weight_dtype or self.dtype

    @property
    def rows(self) -> torch.dtype:
        """The dtype of the activations that products read."""
        return self.row_dtype or self.dtype

    def generator(self) -> torch.Generator:
        """A new generator on the CPU with this seed."""
        return torch.Generator().manual_seed(self.seed)

    def normal(self, generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
        """Normally distributed numbers in the activation dtype, drawn on the device."""
        if self.device == "meta":
            return torch.empty(shape, dtype=self.dtype, device="meta")
        seed = int(torch.randint(2**62, (), generator=generator))
        own = torch.Generator(self.device).manual_seed(seed)
        drawn = torch.randn(shape, generator=own, device=self.device)
        return drawn.mul_(scale).to(self.dtype)

    def numbers(self, values: object, dtype: torch.dtype = torch.int32) -> Tensor:
        """A tensor of `values` on the device."""
        return torch.tensor(values, dtype=dtype).to(self.device)


Tolerance = Mapping[torch.dtype, float]
"""The largest allowed difference by dtype, relative to the largest magnitude of the reference. For
integers it is the share that may differ, 0 by default."""
