"""`swiglu` for the GPU: two products over one pass of x, activated before anything is stored."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import require
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.tile import precision, tile_for
from mercury_kernels.weights import Weight, require_weight


@triton.jit
def swiglu_tile(
    x, gate, gate_scale, up, up_scale, out, tokens, features, depth,
    TOKENS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
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
    for start in range(0, depth, DEPTH):
        at = start + k
        inside_k = at < depth
        inside_w = inside_f[:, None] & inside_k[None, :]
        block = tl.load(x_rows + at[:, None], mask=inside_m[None, :] & inside_k[:, None], other=0.0)
        g = tl.load(gate + w_rows + at[None, :], mask=inside_w, other=0.0)
        u = tl.load(up + w_rows + at[None, :], mask=inside_w, other=0.0)
        a = tl.dot(g.to(x.dtype.element_ty), block, a, input_precision=PRECISION)
        b = tl.dot(u.to(x.dtype.element_ty), block, b, input_precision=PRECISION)
    if gate_scale is not None:
        a *= tl.load(gate_scale + f, mask=inside_f, other=0.0)[:, None]
        b *= tl.load(up_scale + f, mask=inside_f, other=0.0)[:, None]
    y = a * tl.sigmoid(a) * b
    at = out + m[:, None].to(tl.int64) * features + f[None, :]
    inside = inside_m[:, None] & inside_f[None, :]
    tl.store(at, tl.trans(y).to(out.dtype.element_ty), mask=inside)


def swiglu(x: Tensor, gate: Weight, up: Weight, submit: Submit = run) -> Tensor:
    """See `reference.swiglu`. Raises TensorMismatch naming a tensor that does not fit."""
    require("x", x, [None, None], [torch.float32, torch.bfloat16])
    require_weight("gate", gate, None, x)
    features = gate.values.shape[0]
    require_weight("up", up, features, x)
    require("up", up.values, [features, None], [gate.values.dtype])
    tokens, depth = x.shape
    tile = tile_for(tokens, gate.values.dtype)
    out = torch.empty(tokens, features, dtype=x.dtype, device=x.device)
    arguments = {
        "x": x,
        "gate": gate.values,
        "gate_scale": gate.scale,
        "up": up.values,
        "up_scale": up.scale,
        "out": out,
        "tokens": tokens,
        "features": features,
        "depth": depth,
        "TOKENS": tile.tokens,
        "FEATURES": tile.features,
        "DEPTH": tile.depth,
        "PRECISION": precision(x),
    }
    grid = (triton.cdiv(features, tile.features), triton.cdiv(tokens, tile.tokens))
    submit(Launch(swiglu_tile, grid, arguments, tile.warps, tile.stages))
    return out
