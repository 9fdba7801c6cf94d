"""`rotate_and_cache` for the GPU: one program for each head of each token."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.launch import Launch, Submit, run
from mercury_kernels.paged import FP8, PAGE, PagedKVCache
from mercury_kernels.rope.reference import QkvEpilogue, Rotation
from mercury_kernels.weights import MAX_MAGNITUDE, MIN_ABSMAX

SMALLEST = tl.constexpr(MIN_ABSMAX)


@triton.jit
def _keep(held, scale, slot, first, second, HALF: tl.constexpr, LARGEST: tl.constexpr):
    """Write the two halves of head `slot`, quantized with its own scale if there are scales."""
    if scale is not None:
        peak = tl.maximum(tl.max(tl.abs(first), 0), tl.max(tl.abs(second), 0))
        own = tl.maximum(peak, SMALLEST) / LARGEST
        tl.store(scale + slot, own)
        first = first / own
        second = second / own
    at = held + slot * (2 * HALF) + tl.arange(0, HALF)
    tl.store(at, first.to(held.dtype.element_ty))
    tl.store(at + HALF, second.to(held.dtype.element_ty))


@triton.jit(do_not_specialize=["tokens", "heads", "num_kv_heads", "pages", "rows"])
def rotate_head(
    parts, bias, q_norm, k_norm, eps, cos, sin, start, visible, q,
    keys, key_scale, values, value_scale, table,
    tokens, heads, num_kv_heads, pages, rows,
    SPLITS: tl.constexpr, HALF: tl.constexpr, PAGE: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """(x₁, x₂) ↦ (x₁ cos − x₂ sin, x₂ cos + x₁ sin) for one head of one token.

    Values are stored without a rotation.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    sequence = row // tokens
    position = tl.load(start + sequence) + row % tokens
    i = tl.arange(0, HALF)
    columns = (heads + 2 * num_kv_heads) * (2 * HALF)
    at = row.to(tl.int64) * columns + head * (2 * HALF) + i
    first = tl.zeros((HALF,), tl.float32)
    second = tl.zeros((HALF,), tl.float32)
    stride = tl.num_programs(0).to(tl.int64) * columns
    for split in tl.static_range(SPLITS):
        first += tl.load(parts + split * stride + at).to(tl.float32)
        second += tl.load(parts + split * stride + at + HALF).to(tl.float32)
    if bias is not None:
        first += tl.load(bias + head * (2 * HALF) + i).to(tl.float32)
        second += tl.load(bias + head * (2 * HALF) + HALF + i).to(tl.float32)
    if head < heads + num_kv_heads:
        if q_norm is not None:
            norm = q_norm
            if head >= heads:
                norm = k_norm
            squares = tl.sum(first * first, 0) + tl.sum(second * second, 0)
            scale = tl.rsqrt(squares / (2 * HALF) + eps)
            first = first * scale * tl.load(norm + i).to(tl.float32)
            second = second * scale * tl.load(norm + HALF + i).to(tl.float32)
        angle = tl.minimum(position, rows - 1).to(tl.int64) * HALF + i
        c, s = tl.load(cos + angle), tl.load(sin + angle)
        x = first
        first = x * c - second * s
        second = second * c + x * s
    if head < heads:
        _keep(q, None, row.to(tl.int64) * heads + head, first, second, HALF, LARGEST)
    elif (position < pages * PAGE) & (tl.load(visible + row) > 0):
        page = tl.load(table + sequence.to(tl.int64) * pages + position // PAGE).to(tl.int64)
        slot = (page * PAGE + position % PAGE) * num_kv_heads
        if head < heads + num_kv_heads:
            _keep(keys, key_scale, slot + head - heads, first, second, HALF, LARGEST)
        else:
            slot -= heads + num_kv_heads
            _keep(values, value_scale, slot + head, first, second, HALF, LARGEST)


def rotate_and_cache(
    parts: Tensor,
    epilogue: QkvEpilogue,
    rotation: Rotation,
    start: Tensor,
    visible: Tensor,
    q: Tensor,
    cache: PagedKVCache,
    submit: Submit = run,
) -> None:
    """See `reference.rotate_and_cache`. Raises TensorMismatch naming a tensor that does not fit."""
    require("q", q, [None, None, None, None], [torch.float32, torch.bfloat16])
    batch, tokens, heads, width = q.shape
    cache.require(batch, width, q)
    if width & (width - 1):
        raise TensorMismatch(f"q has heads of {width}; a power of two is needed")
    num_kv_heads = cache.keys.shape[2]
    columns = (heads + 2 * num_kv_heads) * width
    require("parts", parts, [None, batch * tokens, columns], [torch.float32], q)
    require("start", start, [batch], [torch.int32], q)
    require("visible", visible, [batch, tokens], [torch.int32], q)
    require("rotation.cos", rotation.cos, [None, width // 2], [torch.float32], q)
    require("rotation.sin", rotation.sin, rotation.cos.shape, [torch.float32], q)
    if (epilogue.q_norm is None) != (epilogue.k_norm is None):
        raise TensorMismatch("epilogue.q_norm and epilogue.k_norm come together")
    optional = (("bias", epilogue.bias, columns), ("q_norm", epilogue.q_norm, width))
    for name, tensor, size in (*optional, ("k_norm", epilogue.k_norm, width)):
        if tensor is not None:
            require(f"epilogue.{name}", tensor, [size], [torch.float32, q.dtype], q)
    arguments = {
        "parts": parts,
        "bias": epilogue.bias,
        "q_norm": epilogue.q_norm,
        "k_norm": epilogue.k_norm,
        "eps": epilogue.eps,
        "cos": rotation.cos,
        "sin": rotation.sin,
        "start": start,
        "visible": visible,
        "q": q,
        "keys": cache.keys,
        "key_scale": cache.key_scale,
        "values": cache.values,
        "value_scale": cache.value_scale,
        "table": cache.table,
        "tokens": tokens,
        "heads": heads,
        "num_kv_heads": num_kv_heads,
        "pages": cache.table.shape[1],
        "rows": rotation.cos.shape[0],
        "SPLITS": parts.shape[0],
        "HALF": width // 2,
        "PAGE": PAGE,
        "LARGEST": MAX_MAGNITUDE[FP8],
    }
    submit(Launch(rotate_head, (batch * tokens, heads + 2 * num_kv_heads), arguments, warps=1))
