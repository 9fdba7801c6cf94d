import torch
from torch import Tensor
from torch.autograd import gradcheck

from mercury_model.network.operations import (
    QueryRange,
    low_rank_linears,
    ranged_attention,
    rms_norm,
    rotary,
    swiglu,
)


def rows(*shape: int, grad: bool = True) -> Tensor:
    draw = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_(grad)


def test_low_rank_linear_has_the_gradients_of_what_it_computes() -> None:
    x, a = rows(5, 6), rows(2, 6)
    ws, biases = (rows(4, 6, grad=False), rows(3, 6, grad=False)), (rows(4, grad=False), None)
    bs = rows(4, 2), rows(3, 2)
    expected = [x @ (w + b @ a).t() for w, b in zip(ws, bs, strict=True)]
    expected[0] = expected[0] + biases[0]
    found = low_rank_linears(x, ws, biases, a, bs)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other)
    got = torch.autograd.grad(sum(y.square().sum() for y in found), (x, a, *bs))
    want = torch.autograd.grad(sum(y.square().sum() for y in expected), (x, a, *bs))
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-5)


def test_rms_norm_swiglu_and_rotary_have_exact_gradients() -> None:
    weight = rows(7).detach().float().requires_grad_()
    x = rows(2, 3, 7).detach().float().requires_grad_()
    expected = torch.nn.functional.rms_norm(x, (7,), weight, 1e-5)
    y = rms_norm(x, weight, 1e-5)
    assert torch.allclose(y, expected, atol=1e-6)
    got = torch.autograd.grad(y.square().sum(), (x, weight))
    want = torch.autograd.grad(expected.square().sum(), (x, weight))
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert gradcheck(swiglu, (rows(3, 8), rows(3, 8)))
    angles = rows(1, 1, 3, 2, grad=False)
    assert gradcheck(lambda t: rotary(t, angles.cos(), angles.sin()), (rows(1, 2, 3, 4),))


def test_attention_over_query_ranges_equals_masked_attention() -> None:
    q, k, v = rows(4, 9, 6), rows(2, 9, 6), rows(2, 9, 6)
    hidden = torch.full((9, 9), float("-inf"), dtype=torch.float64).triu(1)
    ranges = [QueryRange(0, 5, 5, hidden[:5, :5]), QueryRange(5, 9, 9, hidden[5:])]
    expected = torch.nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=hidden, enable_gqa=True
    )[0]
    out = ranged_attention(q, k, v, ranges)
    assert torch.allclose(out, expected)
    got = torch.autograd.grad(out.square().sum(), (q, k, v))
    want = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one, other)
