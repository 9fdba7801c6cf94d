import torch
from torch import Tensor
from torch.autograd import gradcheck

from mercury_model.training.layers import (
    QueryRange,
    attention,
    low_rank_linear,
    rms_norm,
    rotary,
    swiglu,
)


def rows(*shape: int, grad: bool = True) -> Tensor:
    draw = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_(grad)


def test_low_rank_linear_has_the_gradients_of_what_it_computes() -> None:
    x, w, a, b = rows(5, 6), rows(4, 6, grad=False), rows(2, 6), rows(4, 2)
    expected = x @ (w + b @ a).t()
    y = low_rank_linear(x, w, a, b)
    assert torch.allclose(y, expected)
    weight = rows(5, 4, grad=False)
    got = torch.autograd.grad((y * weight).sum(), (x, a, b))
    want = torch.autograd.grad((expected * weight).sum(), (x, a, b))
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-5)


def test_rms_norm_swiglu_and_rotary_have_exact_gradients() -> None:
    weight = rows(7, grad=False)
    x = rows(3, 7).detach().float().requires_grad_()
    expected = torch.nn.functional.rms_norm(x, (7,), weight.float(), 1e-5)
    y = rms_norm(x, weight.float(), 1e-5)
    assert torch.allclose(y, expected, atol=1e-6)
    (got,) = torch.autograd.grad(y.square().sum(), x)
    (want,) = torch.autograd.grad(expected.square().sum(), x)
    assert torch.allclose(got, want, atol=1e-5)
    assert gradcheck(swiglu, (rows(3, 8),))
    angles = rows(3, 2, grad=False)
    assert gradcheck(lambda t: rotary(t, angles.cos(), angles.sin()), (rows(3, 2, 4),))


def test_attention_over_spans_equals_masked_attention() -> None:
    q, k, v = rows(4, 9, 6), rows(2, 9, 6), rows(2, 9, 6)
    hidden = torch.full((9, 9), float("-inf"), dtype=torch.float64).triu(1)
    spans = [QueryRange(0, 5, 5, hidden[:5, :5]), QueryRange(5, 9, 9, hidden[5:])]
    expected = torch.nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=hidden, enable_gqa=True
    )[0].transpose(0, 1)
    out = attention(q, k, v, spans)
    assert torch.allclose(out, expected)
    got = torch.autograd.grad(out.square().sum(), (q, k, v))
    want = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one, other)
