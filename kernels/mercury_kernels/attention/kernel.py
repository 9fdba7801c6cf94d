"""`attend` for the GPU: paged FlashAttention with split keys (flash decoding).

The queries that share a key head (GQA) are packed into one tile of tokens × group rows: a block of
32 with 7 query heads for each key head has 224 rows, and every key is read once. If batch, heads
and rows give too few programs to fill the GPU, the keys are split among several programs, and
`combine` merges their results.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.attention.reference import CausalTokens
from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.paged import PAGE, PagedKVCache
from mercury_kernels.tile import context_splits, precision, query_rows

COMBINED_ROWS = 4


@triton.jit(do_not_specialize=["tokens", "num_kv_heads", "group", "pages", "mask_id"])
def attend_split(
    q, visible, ids, start, keys, key_scale, values, value_scale, table, out, lse, scale,
    tokens, num_kv_heads, group, pages, mask_id,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, PAGE: tl.constexpr, SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """softmax(q kᵀ) v of one tile of rows over one split of the keys, and its log₂-sum-exp.

    `out` [SPLITS, B, T, H_q, D]; `lse` [SPLITS, B, T, H_q]. Scores are in base 2.
    """
    sequence, kv_head = tl.program_id(0) // num_kv_heads, tl.program_id(0) % num_kv_heads
    split = tl.program_id(2)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = row < tokens * group
    token = sequence.to(tl.int64) * tokens + row // group
    head = token * (num_kv_heads * group) + kv_head * group + row % group
    d = tl.arange(0, WIDTH)
    sees = tl.load(visible + token, mask=inside, other=0)
    if ids is not None:
        begin = tl.load(start + sequence)
        is_token = tl.load(ids + token, mask=inside, other=mask_id) != mask_id
        sees = tl.where(is_token, tl.minimum(sees, begin + row // group + 1), sees)
    queries = tl.load(q + head[:, None] * WIDTH + d[None, :], mask=inside[:, None], other=0.0)

    count = tl.max(sees, 0)
    share = tl.cdiv(tl.cdiv(count, PAGE), SPLITS)
    peak = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, WIDTH), tl.float32)
    j = tl.arange(0, PAGE)
    for tile in range(split * share, tl.minimum(split * share + share, tl.cdiv(count, PAGE))):
        page = tl.load(table + sequence.to(tl.int64) * pages + tile).to(tl.int64)
        key = tile * PAGE + j
        held = key < count
        slot = (page * PAGE + j) * num_kv_heads + kv_head
        at = slot * WIDTH
        k = tl.load(keys + at[None, :] + d[:, None], mask=held[None, :], other=0.0)
        v = tl.load(values + at[:, None] + d[None, :], mask=held[:, None], other=0.0)
        scores = tl.dot(queries, k.to(queries.dtype), input_precision=PRECISION) * scale
        if key_scale is not None:
            scores *= tl.load(key_scale + slot, mask=held, other=0.0)[None, :]
        seen = key[None, :] < sees[:, None]
        if ids is not None:
            place = key - begin
            of_block = (place >= 0) & (place < tokens)
            its = tl.load(ids + sequence.to(tl.int64) * tokens + place, mask=of_block, other=0)
            seen = seen & ~(is_token[:, None] & (of_block & (its == mask_id))[None, :])
        scores = tl.where(seen, scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        # A row without visible keys so far has no maximum to subtract.
        base = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        decay = tl.exp2(peak - base)
        total = total * decay + tl.sum(weights, 1)
        if value_scale is not None:
            weights *= tl.load(value_scale + slot, mask=held, other=0.0)[None, :]
        weights = weights.to(queries.dtype)
        sums = tl.dot(
            weights, v.to(queries.dtype), sums * decay[:, None], input_precision=PRECISION
        )
        peak = higher

    any_seen = total > 0
    shared = tl.where(any_seen, total, 1.0)
    part = split.to(tl.int64) * tl.num_programs(0) * tokens * group + head
    result = (sums / shared[:, None]).to(out.dtype.element_ty)
    tl.store(out + part[:, None] * WIDTH + d[None, :], result, mask=inside[:, None])
    if SPLITS > 1:
        logs = tl.where(any_seen, peak + tl.log2(shared), -float("inf"))
        tl.store(lse + part, logs, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def combine(
    parts, lse, out, rows,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """out = Σ_s 2^lse_s parts_s / Σ_s 2^lse_s over the splits with visible keys."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    at = row.to(tl.int64)
    stride = rows.to(tl.int64)
    d = tl.arange(0, WIDTH)
    peak = tl.full((ROWS,), -float("inf"), tl.float32)
    for split in tl.static_range(SPLITS):
        logs = tl.load(lse + split * stride + at, mask=inside, other=-float("inf"))
        peak = tl.maximum(peak, logs)
    base = tl.where(peak == -float("inf"), 0.0, peak)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, WIDTH), tl.float32)
    for split in tl.static_range(SPLITS):
        logs = tl.load(lse + split * stride + at, mask=inside, other=-float("inf"))
        weight = tl.exp2(logs - base)
        part = parts + (split * stride + at)[:, None] * WIDTH + d[None, :]
        total += weight
        sums += weight[:, None] * tl.load(part, mask=inside[:, None], other=0.0)
    result = sums / tl.where(total > 0, total, 1.0)[:, None]
    to = out + at[:, None] * WIDTH + d[None, :]
    tl.store(to, result.to(out.dtype.element_ty), mask=inside[:, None])


def attend(
    q: Tensor,
    visible: Tensor,
    cache: PagedKVCache,
    causal_tokens: CausalTokens | None = None,
    submit: Submit = run,
) -> Tensor:
    """See `reference.attend`. Raises TensorMismatch naming a tensor that does not fit."""
    require("q", q, [None, None, None, None], [torch.float32, torch.bfloat16])
    batch, tokens, heads, width = q.shape
    require("visible", visible, [batch, tokens], [torch.int32], q)
    cache.require(batch, width, q)
    num_kv_heads, pages = cache.keys.shape[2], cache.table.shape[1]
    if heads % num_kv_heads:
        raise TensorMismatch(f"q has {heads} heads; a multiple of {num_kv_heads} is needed")
    if width < 16 or width & (width - 1):
        raise TensorMismatch(f"q has heads of {width}; a power of two from 16 is needed")
    if causal_tokens is not None:
        causal_tokens.require(q)
    group = heads // num_kv_heads
    rows = query_rows(tokens * group)
    tiles = triton.cdiv(tokens * group, rows)
    splits = context_splits(batch * num_kv_heads * tiles, pages)
    out = torch.empty_like(q)
    parts, lse = out, out
    if splits > 1:
        parts = torch.empty(splits, *q.shape, dtype=torch.float32, device=q.device)
        lse = torch.empty(parts.shape[:-1], dtype=torch.float32, device=q.device)
    arguments = {
        "q": q,
        "visible": visible,
        "ids": None if causal_tokens is None else causal_tokens.ids,
        "start": None if causal_tokens is None else causal_tokens.start,
        "keys": cache.keys,
        "key_scale": cache.key_scale,
        "values": cache.values,
        "value_scale": cache.value_scale,
        "table": cache.table,
        "out": parts,
        "lse": lse,
        "scale": math.log2(math.e) / math.sqrt(width),
        "tokens": tokens,
        "num_kv_heads": num_kv_heads,
        "group": group,
        "pages": pages,
        "mask_id": 0 if causal_tokens is None else causal_tokens.mask_id,
        "ROWS": rows,
        "WIDTH": width,
        "PAGE": PAGE,
        "SPLITS": splits,
        "PRECISION": precision(q),
    }
    submit(
        Launch(
            attend_split,
            (batch * num_kv_heads, tiles, splits),
            arguments,
            warps=rows // 16,
            stages=2,
        )
    )
    if splits > 1:
        results = batch * tokens * heads
        arguments = {
            "parts": parts,
            "lse": lse,
            "out": out,
            "rows": results,
            "ROWS": COMBINED_ROWS,
            "WIDTH": width,
            "SPLITS": splits,
        }
        submit(
            Launch(combine, (triton.cdiv(results, COMBINED_ROWS),), arguments, warps=4, stages=1)
        )
    return out
