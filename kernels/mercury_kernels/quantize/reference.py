"""The reference of `quantize` in plain torch."""

import torch
from torch import Tensor

from mercury_kernels.weights import Weight, quantized


def quantize(x: Tensor) -> Weight:
    """q[m, k] = x[m, k] / scale[m] in e4m3, with scale[m] = max_k |x[m, k]| / 448.

    `x` [M, K]. `linear`, `swiglu` and `predict` take the result in place of x if weights are fp8.
    """
    return quantized(x, torch.float8_e4m3fn)
