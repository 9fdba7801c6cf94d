"""The minimum of a smooth function of a few numbers, for the scripts that fit a model's card."""

# mypy: allow-untyped-calls

from collections.abc import Callable

import torch

MAX_ITERATIONS = 200


def minimize(loss: Callable[[torch.Tensor], torch.Tensor], size: int) -> list[float]:
    """The `size` numbers that minimize `loss`, found by L-BFGS from zeros."""
    factors = torch.zeros(size, requires_grad=True)
    search = torch.optim.LBFGS([factors], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def step() -> float:
        search.zero_grad()
        value = loss(factors)
        value.backward()
        return float(value.detach())

    search.step(step)
    return [float(value) for value in factors.detach()]
