"""What `swiglu` means, in plain torch."""

import torch
from torch import Tensor

from mercury_kernels.adapter import Gated
from mercury_kernels.weights import Rows, Weight, plain_type, wide_rows, wider


def swiglu(x: Rows, gate: Weight, up: Weight, gated: Gated | None = None) -> Tensor:
    """y = silu(x · gateᵀ) ⊙ (x · upᵀ), with silu(a) = a / (1 + e^−a).

    `x` [M, K], `gate` and `up` [F, K]. At masked rows an adapter adds to both products, its
    outputs [2 F] those of `gate`, then those of `up`. Returns [M, F] in the type of x, or bf16.
    """
    wide = wider(x)
    rows = wide_rows(x, wide)
    a, b = (rows @ weight.wide(wide).T for weight in (gate, up))
    if gated is not None:
        more_a, more_b = gated.added(rows).chunk(2, -1)
        a, b = a + more_a, b + more_b
    return (torch.nn.functional.silu(a) * b).to(plain_type(x))
