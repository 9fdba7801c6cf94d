"""That the judge of the kernels can say no."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from mercury_kernels.agreement import difference, disagreement
from mercury_kernels.case import Cost, Source


@dataclass(frozen=True)
class Doubling:
    """An operation whose kernel is given; it doubles x and counts its calls in `calls`."""

    kernel_function: Any
    name: str = "double"
    tolerance: Any = None

    def reference(self) -> Any:
        def double(x: torch.Tensor, calls: torch.Tensor) -> torch.Tensor:
            calls += 1
            return x * 2

        return double

    def kernel(self) -> Any:
        return self.kernel_function

    def result(self, output: Any) -> Any:
        return output


class TenNumbers:
    name = "ten"

    def inputs(self, source: Source) -> dict[str, Any]:
        return {"x": torch.arange(10.0), "calls": torch.zeros(1, dtype=torch.int32)}

    def cost(self, source: Source) -> Cost:
        return Cost(80, 10)


def right(x: torch.Tensor, calls: torch.Tensor) -> torch.Tensor:
    calls += 1
    return x + x


def forgetful(x: torch.Tensor, calls: torch.Tensor) -> torch.Tensor:
    return x + x


def inexact(x: torch.Tensor, calls: torch.Tensor) -> torch.Tensor:
    calls += 1
    return x * 2.01


def unfinished(x: torch.Tensor, calls: torch.Tensor) -> torch.Tensor:
    calls += 1
    return torch.where(x > 8, torch.nan, x * 2)


@pytest.mark.parametrize(
    ("kernel", "complaint"),
    [
        (right, None),
        (forgetful, "argument.calls"),
        (inexact, "result is off by 5.00e-03"),
        (unfinished, "result is off by nan"),
    ],
)
def test_a_kernel_is_judged_by_what_it_returns_and_what_it_changes(
    kernel: Any, complaint: str | None
) -> None:
    operation: Any = Doubling(kernel, tolerance={torch.float32: 1e-3})
    found = disagreement(operation, TenNumbers(), Source())
    assert found is None if complaint is None else complaint in str(found)


def test_shapes_infinities_and_shares_count() -> None:
    infinity = torch.tensor([1.0, torch.inf])
    assert difference(torch.zeros(2), torch.zeros(3)) == float("inf")
    assert difference(torch.zeros(2), infinity) == float("inf")
    assert difference(infinity, infinity) == 0.0
    assert difference(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])) == 0.25
