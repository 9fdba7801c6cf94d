"""`predict` for the GPU: each tile of the vocabulary is reduced to its top tokens and two sums.

A logit and its token are packed into one 64-bit key that sorts by higher logit, then by lower id,
so that ranks are exact and independent of the tiling. The top K tokens are in the K tiles with the
highest maxima, so `merge` reads no other tiles.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.head.reference import BLOCKED_LOGIT, Predicted
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.linear.kernel import product
from mercury_kernels.tile import Tile, precision, step_depth, token_tile
from mercury_kernels.weights import Rows, Weight, require_rows, require_weight

MAX_TOP = 64
"""The maximum number of candidates of a row; a tile must have as many tokens."""


_BLOCKED: tl.constexpr = tl.constexpr(BLOCKED_LOGIT)


@triton.jit
def key_of(logit, token):
    """A key that sorts as (logit, −token); flipped bits make negative floats sort as integers."""
    # Adding 0 turns −0 into 0.
    bits = (logit + 0.0).to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
    return (ordered << 32) | (0x7FFFFFFF - token).to(tl.int64)


@triton.jit
def logit_of(key):
    """The logit of a key."""
    ordered = (key >> 32).to(tl.int32)
    return tl.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).to(tl.float32, bitcast=True)


@triton.jit
def token_of(key):
    """The token of a key."""
    return 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)


@triton.jit(do_not_specialize=["vocabulary"])
def predict_tile(
    x, x_scale, weight, scale, keys, sums, tokens, vocabulary, depth,
    TOKENS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr, TOP: tl.constexpr,
    PRECISION: tl.constexpr, allowed=None,
):  # fmt: skip
    """Logits of one tile of the vocabulary, reduced to TOP keys, Σ e^(l−m) and Σ e^(l−m)(l−m).

    `keys` [M, tiles, TOP], best first, m the logit of the first; `sums` [M, tiles, 2]. `allowed`
    [M, V] bytes, 0 where a logit becomes BLOCKED_LOGIT.
    """
    tile, tiles = tl.program_id(0), tl.num_programs(0)
    n = tile * FEATURES + tl.arange(0, FEATURES)
    m = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    k = tl.arange(0, DEPTH)
    inside_n, inside_m = n < vocabulary, m < tokens
    w_rows = weight + n[:, None].to(tl.int64) * depth
    x_rows = x + m[None, :].to(tl.int64) * depth
    total = tl.zeros((FEATURES, TOKENS), tl.float32)
    for start in range(0, depth, DEPTH):
        at = start + k
        inside_k = at < depth
        w = tl.load(w_rows + at[None, :], mask=inside_n[:, None] & inside_k[None, :], other=0.0)
        block = tl.load(x_rows + at[:, None], mask=inside_m[None, :] & inside_k[:, None], other=0.0)
        total = product(w, block, total, PRECISION)
    if scale is not None:
        total *= tl.load(scale + n, mask=inside_n, other=0.0)[:, None]
    if x_scale is not None:
        total *= tl.load(x_scale + m, mask=inside_m, other=0.0)[None, :]
    if allowed is not None:
        places = allowed + m[None, :].to(tl.int64) * vocabulary + n[:, None]
        given = tl.load(places, mask=inside_n[:, None] & inside_m[None, :], other=1)
        total = tl.where(given != 0, total, _BLOCKED)
    logits = tl.trans(tl.where(inside_n[:, None], total, -float("inf")))

    shifted = logits - tl.max(logits, 1)[:, None]
    weights = tl.exp(shifted)
    # Past the end of the vocabulary the product would be 0 · −inf.
    moment = tl.sum(weights * tl.where(inside_n[None, :], shifted, 0.0), 1)
    row = m.to(tl.int64) * tiles + tile
    tl.store(sums + row * 2, tl.sum(weights, 1), mask=inside_m)
    tl.store(sums + row * 2 + 1, moment, mask=inside_m)
    best = tl.topk(key_of(logits, n[None, :]), TOP)
    place = keys + row[:, None] * TOP + tl.arange(0, TOP)[None, :]
    tl.store(place, best, mask=inside_m[:, None])


@triton.jit(do_not_specialize=["tiles"])
def merge(
    keys, sums, names, ids, logits, lse, entropy, tiles,
    TILES: tl.constexpr, FEATURES: tl.constexpr, TOP: tl.constexpr,
    WANTED: tl.constexpr,
):  # fmt: skip
    """One row: TOP best of all tiles, log Z = m + log Σ, entropy = log Z − E[l]."""
    row = tl.program_id(0).to(tl.int64)
    tile = tl.arange(0, TILES)
    inside = tile < tiles
    lowest: tl.constexpr = -(2**63)
    first = tl.load(keys + (row * tiles + tile) * TOP, mask=inside, other=lowest)
    peak = logit_of(tl.max(first, 0))
    gap = tl.where(inside, logit_of(first) - peak, 0.0)
    share = tl.load(sums + (row * tiles + tile) * 2, mask=inside, other=0.0)
    moment = tl.load(sums + (row * tiles + tile) * 2 + 1, mask=inside, other=0.0)
    decay = tl.exp(gap)
    total = tl.sum(share * decay, 0)
    mean = tl.sum((moment + gap * share) * decay, 0) / total
    tl.store(lse + row, peak + tl.log(total))
    tl.store(entropy + row, tl.maximum(tl.log(total) - mean, 0.0))

    leading = tl.topk(first, TOP)
    real = leading != lowest
    source = tl.where(real, token_of(leading) // FEATURES, 0)
    within = tl.arange(0, TOP)
    at = keys + (row * tiles + source[:, None]) * TOP + within[None, :]
    candidates = tl.load(at, mask=real[:, None], other=lowest)
    best = tl.topk(tl.reshape(candidates, (TOP * TOP,)), TOP)
    wanted = within < WANTED
    token = token_of(best)
    if names is not None:
        token = tl.load(names + token, mask=wanted, other=0)
    tl.store(ids + row * WANTED + within, token, mask=wanted)
    tl.store(logits + row * WANTED + within, logit_of(best), mask=wanted)


def vocabulary_tile(tokens: int, values: torch.dtype, rows: torch.dtype) -> Tile:
    """A tile that is wide over the vocabulary, so that there are few partial results."""
    size = min(token_tile(tokens), 64)
    return Tile(size, 128, step_depth(values, rows, size), 4, 4)


def predict(
    x: Rows,
    weight: Weight,
    top: int,
    vocabulary: Tensor | None = None,
    allowed: Tensor | None = None,
    submit: Submit = run,
) -> Predicted:
    """See `reference.predict`. Raises TensorMismatch naming a tensor that does not fit."""
    activations = require_rows(x)
    values = activations.values
    require_weight("weight", weight, None, values)
    tokens, depth = values.shape
    rows = weight.values.shape[0]
    if not 1 <= top <= min(rows, MAX_TOP):
        raise TensorMismatch(f"weight has {rows} rows; the top {top} cannot be chosen")
    if vocabulary is not None:
        require("vocabulary", vocabulary, [rows], [torch.int32], values)
    if allowed is not None:
        require("allowed", allowed, [tokens, rows], [torch.bool], values)
    tile = vocabulary_tile(tokens, weight.values.dtype, values.dtype)
    tiles = triton.cdiv(rows, tile.features)
    width = triton.next_power_of_2(top)
    keys = torch.empty(tokens, tiles, width, dtype=torch.int64, device=values.device)
    sums = torch.empty(tokens, tiles, 2, dtype=torch.float32, device=values.device)
    out = Predicted(
        ids=torch.empty(tokens, top, dtype=torch.int32, device=values.device),
        logits=torch.empty(tokens, top, dtype=torch.float32, device=values.device),
        lse=torch.empty(tokens, dtype=torch.float32, device=values.device),
        entropy=torch.empty(tokens, dtype=torch.float32, device=values.device),
    )
    arguments = {
        "x": values,
        "x_scale": activations.scale,
        "weight": weight.values,
        "scale": weight.scale,
        "keys": keys,
        "sums": sums,
        "tokens": tokens,
        "vocabulary": rows,
        "depth": depth,
        "TOKENS": tile.tokens,
        "FEATURES": tile.features,
        "DEPTH": tile.depth,
        "TOP": width,
        "PRECISION": precision(values),
    }
    if allowed is not None:
        arguments["allowed"] = allowed.view(torch.uint8)
    grid = (tiles, triton.cdiv(tokens, tile.tokens))
    submit(Launch(predict_tile, grid, arguments, warps=tile.warps, stages=tile.stages))
    arguments = {
        "keys": keys,
        "sums": sums,
        "names": vocabulary,
        "ids": out.ids,
        "logits": out.logits,
        "lse": out.lse,
        "entropy": out.entropy,
        "tiles": tiles,
        "TILES": max(triton.next_power_of_2(tiles), width),
        "FEATURES": tile.features,
        "TOP": width,
        "WANTED": top,
    }
    submit(Launch(merge, (tokens,), arguments, warps=8 if tiles > 512 else 4, stages=1))
    return out
