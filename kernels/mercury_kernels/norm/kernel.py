"""`add_rmsnorm` for the GPU: one program for each row, which it holds in registers."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.launch import Launch, Submit, run

MAX_WIDTH = 8192
"""The widest row that fits the registers of one program."""


@triton.jit
def add_rmsnorm_row(
    parts, residual, weight, out, width, eps,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of r ← r + Σ_s parts[s];  y = r / √(mean(r²) + eps) · weight."""
    row = tl.program_id(0).to(tl.int64) * width
    part_stride = tl.num_programs(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    inside = column < width
    added = tl.zeros((BLOCK,), tl.float32)
    for split in tl.static_range(SPLITS):
        at = parts + split * part_stride + row + column
        added += tl.load(at, mask=inside, other=0.0).to(tl.float32)
    old = tl.load(residual + row + column, mask=inside, other=0.0).to(tl.float32)
    rounded = (old + added).to(residual.dtype.element_ty)
    tl.store(residual + row + column, rounded, mask=inside)
    r = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(r * r, 0) / width + eps)
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + column, (r * scale * w).to(out.dtype.element_ty), mask=inside)


def add_rmsnorm(
    parts: Tensor, residual: Tensor, weight: Tensor, eps: float, submit: Submit = run
) -> Tensor:
    """See `reference.add_rmsnorm`. Raises TensorMismatch naming a tensor that does not fit."""
    require("residual", residual, [None, None], [torch.float32, torch.bfloat16])
    rows, width = residual.shape
    require("parts", parts, [None, rows, width], [torch.float32, residual.dtype], residual)
    require("weight", weight, [width], [torch.float32, residual.dtype], residual)
    if width > MAX_WIDTH:
        raise TensorMismatch(f"residual has rows of {width}; at most {MAX_WIDTH} fit")
    out = torch.empty_like(residual)
    block = triton.next_power_of_2(width)
    arguments = {
        "parts": parts,
        "residual": residual,
        "weight": weight,
        "out": out,
        "width": width,
        "eps": eps,
        "SPLITS": parts.shape[0],
        "BLOCK": block,
    }
    submit(Launch(add_rmsnorm_row, (rows,), arguments, warps=8 if block > 2048 else 4))
    return out
