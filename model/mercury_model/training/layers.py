"""The few operations training spends its time in, each with a backward of its own.

Weights of the base are frozen, so no gradient is ever formed for them: that, and attention without
the rows that a causal mask would hide, is what makes a CPU fast enough. Everything here is
rows by width; there is no batch axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


class LowRankLinear(Function):
    """`x Wᵀ + x aᵀ bᵀ` with W frozen. x [N, in], w [out, in], a [r, in], b [out, r]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Rows through the frozen and the low-rank weights."""
        a, b = a.to(x.dtype), b.to(x.dtype)
        inner = x @ a.t()
        ctx.save_for_backward(x, w, a, b, inner)
        y: Tensor = F.linear(x, w)
        y.addmm_(inner, b.t())
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor]:
        """Gradients of x, a and b; W has none."""
        x, w, a, b, inner = ctx.saved_tensors
        (grad,) = grads
        inner_grad = grad @ b
        dx = (grad @ w).addmm_(inner_grad, a) if ctx.needs_input_grad[0] else None
        return dx, None, (inner_grad.t() @ x).float(), (grad.t() @ inner).float()


class RMSNorm(Function):
    """`x / rms(x) · weight` with the weight frozen (Zhang & Sennrich 2019). x [N, D]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Rows of unit root mean square, scaled by `weight`."""
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (scale.square_().div_(x.shape[-1]).add_(eps)).rsqrt_().to(x.dtype)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        y: Tensor = unit * weight
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of x alone."""
        unit, scale, weight = ctx.saved_tensors
        g = grads[0] * weight
        along = (g * unit).mean(-1, keepdim=True, dtype=torch.float32).to(g.dtype)
        return torch.addcmul(g, unit, along, value=-1).mul_(scale), None, None


class SwiGLU(Function):
    """`silu(gate) · up` (Shazeer 2020). x [N, 2F] holds gate and up side by side."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The gated half, [N, F]."""
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Gradient of both halves, [N, 2F]."""
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, -1)
        (grad,) = grads
        out = torch.empty_like(x)
        out[:, : gate.shape[1]] = torch.ops.aten.silu_backward(grad * up, gate)
        torch.mul(grad, F.silu(gate), out=out[:, gate.shape[1] :])
        return out


class Rotary(Function):
    """Rotary positions (Su et al. 2021), halves as pairs. x [N, H, D], cos and sin [N, D/2]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Each head turned by its row's angles."""
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The turn undone."""
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    c, s = cos[:, None], sin[:, None]
    low, high = x.chunk(2, -1)
    return torch.cat([low * c - high * s, high * c + low * s], -1)


@dataclass(frozen=True, slots=True)
class QueryRange:
    """Query rows `start:stop` see keys `:keys`, but for what `hidden` (additive, [rows, keys])
    puts at minus infinity.
    """

    start: int
    stop: int
    keys: int
    hidden: Tensor


class Attention(Function):
    """Grouped-query attention over spans of query rows.

    q [H, N, D], k and v [G, S, D] with H a multiple of G; out [N, H, D]. Spans cover all N rows.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, spans: Sequence[QueryRange]) -> Tensor:
        """Softmax of scaled scores, times the values, span by span."""
        heads, rows, width = q.shape
        groups = k.shape[0]
        share = heads // groups
        out = q.new_empty(heads, rows, width)
        probs = []
        for span in spans:
            bias = span.hidden.repeat(share, 1)
            for g in range(groups):
                mine = slice(g * share, (g + 1) * share)
                queries = q[mine, span.start : span.stop].reshape(-1, width)
                scores = torch.addmm(bias, queries, k[g, : span.keys].t(), alpha=width**-0.5)
                p = torch.softmax(scores, -1)
                probs.append(p)
                out[mine, span.start : span.stop] = (p @ v[g, : span.keys]).view(share, -1, width)
        ctx.save_for_backward(q, k, v, *probs)
        ctx.spans = spans
        return out.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of q, k and v."""
        q, k, v, *probs = ctx.saved_tensors
        heads, _, width = q.shape
        groups = k.shape[0]
        share = heads // groups
        grad = grads[0].transpose(0, 1)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for i, span in enumerate(ctx.spans):
            for g in range(groups):
                mine = slice(g * share, (g + 1) * share)
                rows, keys = slice(span.start, span.stop), slice(span.keys)
                p = probs[i * groups + g]
                out_grad = grad[mine, rows].reshape(-1, width)
                queries = q[mine, rows].reshape(-1, width)
                dv[g, keys].addmm_(p.t(), out_grad)
                dp = out_grad @ v[g, keys].t()
                ds = torch._softmax_backward_data(dp, p, -1, p.dtype).mul_(width**-0.5)
                dq[mine, rows] = (ds @ k[g, keys]).view(share, -1, width)
                dk[g, keys].addmm_(ds.t(), queries)
        return dq, dk, dv, None


def low_rank_linear(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """See `LowRankLinear`."""
    return cast("Tensor", LowRankLinear.apply(x, w, a, b))  # type: ignore[no-untyped-call]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See `RMSNorm`."""
    return cast("Tensor", RMSNorm.apply(x, weight, eps))  # type: ignore[no-untyped-call]


def swiglu(x: Tensor) -> Tensor:
    """See `SwiGLU`."""
    return cast("Tensor", SwiGLU.apply(x))  # type: ignore[no-untyped-call]


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """See `Rotary`."""
    return cast("Tensor", Rotary.apply(x, cos, sin))  # type: ignore[no-untyped-call]


def attention(q: Tensor, k: Tensor, v: Tensor, spans: Sequence[QueryRange]) -> Tensor:
    """See `Attention`."""
    return cast("Tensor", Attention.apply(q, k, v, spans))  # type: ignore[no-untyped-call]
