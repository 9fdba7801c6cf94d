"""The reference of `swiglu` in plain torch."""

import torch
from torch import Tensor

from mercury_kernels.adapter import Gated
from mercury_kernels.weights import Rows, Weight, accumulator_dtype, dequantize_rows, output_dtype


def swiglu(x: Rows, gate: Weight, up: Weight, gated: Gated | None = None) -> Tensor:
    """y = silu(x · gateᵀ) ⊙ (x · upᵀ), with silu(a) = a / (1 + e^−a).

    `x` [M, K], `gate` and `up` [F, K]. At masked rows the adapter adds to both products: its
    outputs [2 F] are those of `gate`, then those of `up`. Returns [M, F] in the dtype of x, or bf16
    if x is fp8.
    """
    dtype = accumulator_dtype(x)
    rows = dequantize_rows(x, dtype)
    a, b = (rows @ weight.dequantize(dtype).T for weight in (gate, up))
    if gated is not None:
        more_a, more_b = gated.delta(rows).chunk(2, -1)
        a, b = a + more_a, b + more_b
    return (torch.nn.functional.silu(a) * b).to(output_dtype(x))
