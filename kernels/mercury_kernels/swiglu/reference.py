"""What `swiglu` means, in plain torch."""

import torch
from torch import Tensor

from mercury_kernels.weights import Weight


def swiglu(x: Tensor, gate: Weight, up: Weight) -> Tensor:
    """y = silu(x · gateᵀ) ⊙ (x · upᵀ), with silu(a) = a / (1 + e^−a).

    `x` [M, K], `gate` and `up` [F, K]. Returns [M, F] in the type of x.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    a, b = (x.to(wide) @ weight.wide(wide).T for weight in (gate, up))
    return (torch.nn.functional.silu(a) * b).to(x.dtype)
