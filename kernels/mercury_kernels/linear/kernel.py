"""`linear` for the GPU: weights stream through once, the depth split so that every SM has some.

Splitting the depth rather than adding atomically keeps results the same from run to run, and the
sum over the splits is free: `add_rmsnorm` and `rotate_and_cache` take their input in parts.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import require
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.tile import precision, splits, tile_for
from mercury_kernels.weights import Weight, require_weight


@triton.jit
def linear_part(
    x, weight, scale, out, tokens, features, depth,
    TOKENS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[s, m, n] = Σ_{k in split s} x[m, k] · w[n, k] · scale[n], one tile of m and n."""
    n = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    m = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    split = tl.program_id(2)
    k = tl.arange(0, DEPTH)
    inside_n, inside_m = n < features, m < tokens
    share = tl.cdiv(tl.cdiv(depth, DEPTH), tl.num_programs(2)) * DEPTH
    first = split * share
    last = tl.minimum(first + share, depth)
    w_rows = weight + n[:, None].to(tl.int64) * depth
    x_rows = x + m[None, :].to(tl.int64) * depth
    total = tl.zeros((FEATURES, TOKENS), tl.float32)
    for start in range(first, last, DEPTH):
        at = start + k
        inside_k = at < last
        w = tl.load(w_rows + at[None, :], mask=inside_n[:, None] & inside_k[None, :], other=0.0)
        block = tl.load(x_rows + at[:, None], mask=inside_m[None, :] & inside_k[:, None], other=0.0)
        total = tl.dot(w.to(x.dtype.element_ty), block, total, input_precision=PRECISION)
    if scale is not None:
        total *= tl.load(scale + n, mask=inside_n, other=0.0)[:, None]
    rows = split.to(tl.int64) * tokens + m
    at = out + rows[:, None] * features + n[None, :]
    tl.store(at, tl.trans(total), mask=inside_m[:, None] & inside_n[None, :])


def linear(x: Tensor, weight: Weight, submit: Submit = run) -> Tensor:
    """See `reference.linear`. Raises TensorMismatch naming a tensor that does not fit."""
    require("x", x, [None, None], [torch.float32, torch.bfloat16])
    require_weight("weight", weight, None, x)
    tokens, depth = x.shape
    features = weight.values.shape[0]
    tile = tile_for(tokens, weight.values.dtype)
    parts = splits(tokens, features, depth, tile)
    out = torch.empty(parts, tokens, features, dtype=torch.float32, device=x.device)
    arguments = {
        "x": x,
        "weight": weight.values,
        "scale": weight.scale,
        "out": out,
        "tokens": tokens,
        "features": features,
        "depth": depth,
        "TOKENS": tile.tokens,
        "FEATURES": tile.features,
        "DEPTH": tile.depth,
        "PRECISION": precision(x),
    }
    grid = (triton.cdiv(features, tile.features), triton.cdiv(tokens, tile.tokens), parts)
    submit(Launch(linear_part, grid, arguments, tile.warps, tile.stages))
    return out
