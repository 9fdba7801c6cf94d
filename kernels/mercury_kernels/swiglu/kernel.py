"""`swiglu` for the GPU: both products read x once, and only the activated result is stored."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.adapter import NO_ADAPTER, Gated
from mercury_kernels.check import require
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.linear.kernel import lifted, product
from mercury_kernels.tile import precision, tile_for, with_adapter
from mercury_kernels.weights import Rows, Weight, output_dtype, require_rows, require_weight


@triton.jit(do_not_specialize=["mask_id"])
def swiglu_tile(
    x, x_scale, gate, gate_scale, up, up_scale, down, lift, ids, out,
    tokens, features, depth, rank, mask_id,
    TOKENS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr, RANK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out[m, f] = silu(Σ_k x[m, k] · gate[f, k]) · Σ_k x[m, k] · up[f, k], one tile of m and f."""
    f = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    m = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    k = tl.arange(0, DEPTH)
    inside_f, inside_m = f < features, m < tokens
    w_rows = f[:, None].to(tl.int64) * depth
    x_rows = x + m[None, :].to(tl.int64) * depth
    a = tl.zeros((FEATURES, TOKENS), tl.float32)
    b = tl.zeros((FEATURES, TOKENS), tl.float32)
    if down is not None:
        r = tl.arange(0, RANK)
        inner = tl.zeros((RANK, TOKENS), tl.float32)
    for start in range(0, depth, DEPTH):
        at = start + k
        inside_k = at < depth
        inside_w = inside_f[:, None] & inside_k[None, :]
        block = tl.load(x_rows + at[:, None], mask=inside_m[None, :] & inside_k[:, None], other=0.0)
        g = tl.load(gate + w_rows + at[None, :], mask=inside_w, other=0.0)
        u = tl.load(up + w_rows + at[None, :], mask=inside_w, other=0.0)
        a = product(g, block, a, PRECISION)
        b = product(u, block, b, PRECISION)
        if down is not None:
            inside_r = (r < rank)[:, None] & inside_k[None, :]
            narrow = tl.load(down + r[:, None] * depth + at[None, :], mask=inside_r, other=0.0)
            inner = tl.dot(narrow, block, inner, input_precision=PRECISION)
    if gate_scale is not None:
        a *= tl.load(gate_scale + f, mask=inside_f, other=0.0)[:, None]
        b *= tl.load(up_scale + f, mask=inside_f, other=0.0)[:, None]
    if x_scale is not None:
        of_rows = tl.load(x_scale + m, mask=inside_m, other=0.0)[None, :]
        a *= of_rows
        b *= of_rows
    if down is not None:
        masked = inside_m & (tl.load(ids + m, mask=inside_m, other=0) == mask_id)
        inner = tl.where(masked[None, :], inner, 0.0)
        a += lifted(inner, lift, f, inside_f, rank, PRECISION)
        b += lifted(inner, lift, features + f, inside_f, rank, PRECISION)
    y = a * tl.sigmoid(a) * b
    at = out + m[:, None].to(tl.int64) * features + f[None, :]
    inside = inside_m[:, None] & inside_f[None, :]
    tl.store(at, tl.trans(y).to(out.dtype.element_ty), mask=inside)


def swiglu(
    x: Rows, gate: Weight, up: Weight, gated: Gated | None = None, submit: Submit = run
) -> Tensor:
    """See `reference.swiglu`. Raises TensorMismatch naming a tensor that does not fit."""
    rows = require_rows(x)
    require_weight("gate", gate, None, rows.values)
    features = gate.values.shape[0]
    require_weight("up", up, features, rows.values)
    require("up", up.values, [features, None], [gate.values.dtype])
    tokens, depth = rows.values.shape
    kinds = gate.values.dtype, rows.values.dtype
    tile = tile_for(tokens, *kinds)
    if isinstance(x, Weight) and tile.tokens == 128:
        # fp8 sums of a step need registers besides the totals; with 8 warps they would spill.
        tile = replace(tile, warps=16)
    if gated is not None:
        gated.require(2 * features, rows.values)
        # Three accumulators of 128 tokens would spill.
        tile = with_adapter(tile_for(min(tokens, 64), *kinds))
    out = torch.empty(tokens, features, dtype=output_dtype(x), device=rows.values.device)
    arguments = {
        "x": rows.values,
        "x_scale": rows.scale,
        "gate": gate.values,
        "gate_scale": gate.scale,
        "up": up.values,
        "up_scale": up.scale,
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
    grid = (triton.cdiv(features, tile.features), triton.cdiv(tokens, tile.tokens))
    submit(Launch(swiglu_tile, grid, arguments, warps=tile.warps, stages=tile.stages))
    return out
