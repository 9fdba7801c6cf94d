"""Several of torch's optimisers as one, with clipped gradients and named parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer


class Optimizer:
    """Steps `optimizers`, whose learning rates are the full ones.

    `parameters` are all that are trained, by name. The gradients of each of `clipped` are scaled
    down together to a norm of at most `max_norm`.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizers: Sequence[TorchOptimizer],
        clipped: Sequence[Sequence[nn.Parameter]],
        max_norm: float,
    ) -> None:
        self.parameters = parameters
        self._optimizers = optimizers
        self._clipped = clipped
        self._max_norm = max_norm
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def step(self, rate: float) -> list[float]:
        """Change the parameters at `rate` times the full learning rates, and drop the gradients.

        Returns the norm of the gradients of each of `clipped` before scaling.
        """
        norms = [float(nn.utils.clip_grad_norm_(part, self._max_norm)) for part in self._clipped]
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norms

    def state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What the optimiser of `parameter` keeps of it; empty before the first step."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                if any(parameter is each for each in group["params"]):
                    state: dict[str, Any] = optimizer.state[parameter]
                    return state
        raise KeyError("the parameter is not trained")
