"""`linear` for the GPU: a split-K product that reads each weight once and keeps every SM busy.

Partial sums instead of atomic adds make results deterministic. Adding them costs nothing, since
`add_rmsnorm` and `rotate_and_cache` do it when they read their input.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.adapter import NO_ADAPTER, Gated
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.tile import precision, splits, tile_for, with_adapter
from mercury_kernels.weights import Rows, Weight, require_rows, require_weight


@triton.jit
def product(w, block, total, PRECISION: tl.constexpr):
    """total + w · block, with w converted to the dtype of block. Sums of an fp8 step lose bits."""
    w = w.to(block.dtype)
    if block.dtype == tl.float8e4nv:
        return tl.dot(w, block, total, max_num_imprecise_acc=w.shape[1])
    return tl.dot(w, block, total, input_precision=PRECISION)


@triton.jit
def lifted(inner, lift, n, inside_n, rank, PRECISION: tl.constexpr):
    """lift[n, :] · inner, [FEATURES, TOKENS], where inner [RANK, TOKENS] is fp32.

    `inner` is split into a high and a low part in the dtype of lift. Rounding it once would limit
    the result to the precision of that dtype.
    """
    r = tl.arange(0, inner.shape[0])
    inside = inside_n[:, None] & (r < rank)[None, :]
    rows = tl.load(lift + n[:, None].to(tl.int64) * rank + r[None, :], mask=inside, other=0.0)
    high = inner.to(rows.dtype)
    low = (inner - high.to(tl.float32)).to(rows.dtype)
    total = tl.dot(rows, high, input_precision=PRECISION)
    return tl.dot(rows, low, total, input_precision=PRECISION)


@triton.jit(do_not_specialize=["mask_id"])
def linear_part(
    x, x_scale, weight, scale, down, lift, ids, out, tokens, features, depth, rank, mask_id,
    TOKENS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr, RANK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out[s, m, n] = Σ_{k in split s} x[m, k] · w[n, k] · scale[n], one tile of m and n.

    Every program computes the inner product of the adapter for its own tokens. That needs few
    loads and no second launch.
    """
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
    if down is not None:
        r = tl.arange(0, RANK)
        inner = tl.zeros((RANK, TOKENS), tl.float32)
    for start in range(first, last, DEPTH):
        at = start + k
        inside_k = at < last
        w = tl.load(w_rows + at[None, :], mask=inside_n[:, None] & inside_k[None, :], other=0.0)
        block = tl.load(x_rows + at[:, None], mask=inside_m[None, :] & inside_k[:, None], other=0.0)
        total = product(w, block, total, PRECISION)
        if down is not None:
            inside_r = (r < rank)[:, None] & inside_k[None, :]
            narrow = tl.load(down + r[:, None] * depth + at[None, :], mask=inside_r, other=0.0)
            inner = tl.dot(narrow, block, inner, input_precision=PRECISION)
    if scale is not None:
        total *= tl.load(scale + n, mask=inside_n, other=0.0)[:, None]
    if x_scale is not None:
        total *= tl.load(x_scale + m, mask=inside_m, other=0.0)[None, :]
    if down is not None:
        masked = inside_m & (tl.load(ids + m, mask=inside_m, other=0) == mask_id)
        inner = tl.where(masked[None, :], inner, 0.0)
        total += lifted(inner, lift, n, inside_n, rank, PRECISION)
    rows = split.to(tl.int64) * tokens + m
    at = out + rows[:, None] * features + n[None, :]
    tl.store(at, tl.trans(total), mask=inside_m[:, None] & inside_n[None, :])


def linear(x: Rows, weight: Weight, gated: Gated | None = None, submit: Submit = run) -> Tensor:
    """See `reference.linear`. Raises TensorMismatch naming a tensor that does not fit."""
    rows = require_rows(x)
    require_weight("weight", weight, None, rows.values)
    tokens, depth = rows.values.shape
    features = weight.values.shape[0]
    tile = tile_for(tokens, weight.values.dtype, rows.values.dtype)
    if gated is not None:
        gated.require(features, rows.values)
        tile = with_adapter(tile)
    parts = splits(tokens, features, depth, tile)
    out = torch.empty(parts, tokens, features, dtype=torch.float32, device=rows.values.device)
    arguments = {
        "x": rows.values,
        "x_scale": rows.scale,
        "weight": weight.values,
        "scale": weight.scale,
        **(NO_ADAPTER if gated is None else gated.arguments()),
        "out": out,
        "tokens": tokens,
        "features": features,
        "depth": depth,
        "TOKENS": tile.tokens,
        "FEATURES": tile.features,
        "DEPTH": tile.depth,
        "PRECISION": precision(rows.values),
    }
    grid = (triton.cdiv(features, tile.features), triton.cdiv(tokens, tile.tokens), parts)
    submit(Launch(linear_part, grid, arguments, warps=tile.warps, stages=tile.stages))
    return out
