"""`quantize` for the GPU: one program for each row reads it twice, then from the cache."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import require
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.weights import MAX_MAGNITUDE, MIN_ABSMAX, Weight

MAX_WIDTH = 4096


@triton.jit
def quantize_row(
    x, out, scale, width,
    BLOCK: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    """out = x / scale, scale = max |x| / LARGEST, for one row."""
    row = tl.program_id(0)
    start = row.to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    peaks = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, width, BLOCK):
        at = first + column
        here = tl.load(x + start + at, mask=at < width, other=0.0).to(tl.float32)
        peaks = tl.maximum(peaks, tl.abs(here))
    factor = tl.maximum(tl.max(peaks, 0), SMALLEST) / LARGEST
    tl.store(scale + row, factor)
    for first in range(0, width, BLOCK):
        at = first + column
        here = tl.load(x + start + at, mask=at < width, other=0.0).to(tl.float32) / factor
        # Rounding may exceed the largest value of the dtype.
        here = tl.minimum(tl.maximum(here, -LARGEST), LARGEST)
        tl.store(out + start + at, here.to(out.dtype.element_ty), mask=at < width)


def quantize(x: Tensor, submit: Submit = run) -> Weight:
    """See `reference.quantize`. Raises TensorMismatch naming a tensor that does not fit."""
    require("x", x, [None, None], [torch.float32, torch.bfloat16])
    rows, width = x.shape
    kind = torch.float8_e4m3fn
    out = Weight(
        torch.empty(rows, width, dtype=kind, device=x.device),
        torch.empty(rows, dtype=torch.float32, device=x.device),
    )
    block = min(triton.next_power_of_2(width), MAX_WIDTH)
    arguments = {
        "x": x,
        "out": out.values,
        "scale": out.scale,
        "width": width,
        "BLOCK": block,
        "LARGEST": MAX_MAGNITUDE[kind],
        "SMALLEST": MIN_ABSMAX,
    }
    submit(Launch(quantize_row, (rows,), arguments, warps=8 if block > 2048 else 4))
    return out
