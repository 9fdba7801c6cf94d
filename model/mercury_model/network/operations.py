"""The operations of a layer, each with a backward pass of its own.

Frozen weights get no gradient: a step of the adaptation skips that work. Attention over query
ranges skips the keys that a causal mask would hide. Both are what makes training on a CPU fast
enough. Inference runs the same forward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


class LowRankLinears(Function):
    """`y_i = x W_iᵀ + bias_i + (x aᵀ) b_iᵀ` for matrices that read the same rows.

    x [N, in], a [r, in]; then n times W [out_i, in], n times bias [out_i] or None, and n times b
    [out_i, r]. W and the biases are frozen: only x, a and b have gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, *weights: Any) -> tuple[Tensor, ...]:
        """The n results, [N, out_i] each."""
        count = len(weights) // 3
        ws, biases, bs = (weights[i * count : (i + 1) * count] for i in range(3))
        a, bs = a.to(x.dtype), tuple(b.to(x.dtype) for b in bs)
        inner = x @ a.t()
        ctx.save_for_backward(x, a, inner, *ws, *bs)
        return tuple(
            F.linear(x, w, bias).addmm_(inner, b.t())
            for w, bias, b in zip(ws, biases, bs, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a and each b."""
        x, a, inner, *weights = ctx.saved_tensors
        count = len(weights) // 2
        ws, bs = weights[:count], weights[count:]
        inner_grad = grads[0] @ bs[0]
        for grad, b in zip(grads[1:], bs[1:], strict=True):
            inner_grad.addmm_(grad, b)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = grads[0] @ ws[0]
            for grad, w in zip(grads[1:], ws[1:], strict=True):
                dx.addmm_(grad, w)
            dx.addmm_(inner_grad, a)
        da = (inner_grad.t() @ x).float()
        dbs = [(grad.t() @ inner).float() for grad in grads]
        return dx, da, *[None] * (2 * count), *dbs


class RMSNorm(Function):
    """`x / sqrt(mean(x²) + ε) · weight` (Zhang and Sennrich 2019, arXiv:1910.07467).

    x [..., D], weight [D]. The mean is taken in fp32; the result has the type of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Rows of unit root mean square, scaled by `weight`."""
        x32 = x.float()
        scale = torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
        unit = (x32 * scale).to(x.dtype)
        ctx.save_for_backward(unit, scale.to(x.dtype), weight)
        y: Tensor = weight * unit
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of x and of the weight, each if it is wanted."""
        unit, scale, weight = ctx.saved_tensors
        (grad,) = grads
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            g = grad * weight
            along = (g * unit).mean(-1, keepdim=True, dtype=torch.float32).to(g.dtype)
            dx = torch.addcmul(g, unit, along, value=-1).mul_(scale)
        if ctx.needs_input_grad[1]:
            dweight = (grad * unit).flatten(0, -2).sum(0)
        return dx, dweight, None


class SwiGLU(Function):
    """`silu(gate) · up` (Shazeer 2020, arXiv:2002.05202). Both are [..., F]."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """The product, [..., F]."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both."""
        gate, up = ctx.saved_tensors
        (grad,) = grads
        return torch.ops.aten.silu_backward(grad * up, gate), grad * F.silu(gate)


class Rotary(Function):
    """Rotary position embeddings (Su et al. 2021, arXiv:2104.09864); the halves of W are the pairs.

    x [B, H, T, W], cos and sin [B, 1, T, W / 2].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate each head by the angles of its row."""
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Rotate back."""
        cos, sin = ctx.saved_tensors
        return _rotate(grads[0], cos, -sin), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    out = torch.empty_like(x, dtype=torch.result_type(x, cos))
    half = low.shape[-1]
    out[..., :half] = low * cos - high * sin
    out[..., half:] = high * cos + low * sin
    return out


@dataclass(frozen=True, slots=True)
class QueryRange:
    """Query rows `start:stop` see the keys `:keys`.

    `bias` [stop - start, keys] is added to the scores; it is minus infinity where a row does not
    see a key.
    """

    start: int
    stop: int
    keys: int
    bias: Tensor


class RangedAttention(Function):
    """Grouped-query attention, one range of query rows after another.

    q [H, N, W], k and v [G, S, W] with H a multiple of G; the result is [H, N, W]. The ranges cover
    all N rows. The probabilities are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ranges: Sequence[QueryRange]) -> Tensor:
        """Softmax of the scaled scores, times the values."""
        heads, rows, width = q.shape
        groups = k.shape[0]
        share = heads // groups
        out = q.new_empty(heads, rows, width)
        probs = []
        for part in ranges:
            bias = part.bias.repeat(share, 1)
            for g in range(groups):
                mine = slice(g * share, (g + 1) * share)
                queries = q[mine, part.start : part.stop].reshape(-1, width)
                scores = torch.addmm(bias, queries, k[g, : part.keys].t(), alpha=width**-0.5)
                p = torch.softmax(scores, -1)
                probs.append(p)
                out[mine, part.start : part.stop] = (p @ v[g, : part.keys]).view(share, -1, width)
        ctx.save_for_backward(q, k, v, *probs)
        ctx.ranges = ranges
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of q, k and v."""
        q, k, v, *probs = ctx.saved_tensors
        heads, _, width = q.shape
        groups = k.shape[0]
        share = heads // groups
        (grad,) = grads
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for i, part in enumerate(ctx.ranges):
            for g in range(groups):
                mine = slice(g * share, (g + 1) * share)
                rows, keys = slice(part.start, part.stop), slice(part.keys)
                p = probs[i * groups + g]
                out_grad = grad[mine, rows].reshape(-1, width)
                queries = q[mine, rows].reshape(-1, width)
                dv[g, keys].addmm_(p.t(), out_grad)
                dp = out_grad @ v[g, keys].t()
                ds = torch._softmax_backward_data(dp, p, -1, p.dtype).mul_(width**-0.5)
                dq[mine, rows] = (ds @ k[g, keys]).view(share, -1, width)
                dk[g, keys].addmm_(ds.t(), queries)
        return dq, dk, dv, None


def low_rank_linears(
    x: Tensor,
    ws: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    a: Tensor,
    bs: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """See `LowRankLinears`; x [..., in]."""
    rows = x.flatten(0, -2)
    found: tuple[Tensor, ...] = LowRankLinears.apply(rows, a, *ws, *biases, *bs)  # type: ignore[no-untyped-call]
    return tuple(y.view(*x.shape[:-1], -1) for y in found)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See `RMSNorm`."""
    return cast("Tensor", RMSNorm.apply(x, weight, eps))  # type: ignore[no-untyped-call]


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """See `SwiGLU`."""
    return cast("Tensor", SwiGLU.apply(gate, up))  # type: ignore[no-untyped-call]


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """See `Rotary`."""
    return cast("Tensor", Rotary.apply(x, cos, sin))  # type: ignore[no-untyped-call]


def ranged_attention(q: Tensor, k: Tensor, v: Tensor, ranges: Sequence[QueryRange]) -> Tensor:
    """See `RangedAttention`."""
    return cast("Tensor", RangedAttention.apply(q, k, v, ranges))  # type: ignore[no-untyped-call]
