from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_kernels.attention import cases
from mercury_kernels.attention.reference import attend as reference
from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.paged import PAGE, PagedKVCache
from mercury_kernels.tile import context_splits

SMALL = cases.AttentionCase((70, -1), 3, (4, 2), 16)


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """PyTorch's own attention, [T, H, D]."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1).transpose(0, 1) for x in (k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q.transpose(0, 1), k, v, attn_mask=mask)
    return out.transpose(0, 1)


@pytest.mark.parametrize("pattern", ["block", "causal"])
def test_the_reference_is_ordinary_attention_over_the_pages_in_order(pattern: Any) -> None:
    case = cases.AttentionCase((70,), 9, (6, 2), 16, pattern=pattern)
    given_ = case.inputs(Source())
    cache = given_["cache"]
    keys, values = (held[cache.table[0].long()].flatten(0, 1)[:79] for held in _held(cache))
    mask = torch.arange(79) < given_["visible"][0][:, None]
    want = dense(given_["q"][0], keys, values, mask)
    assert torch.allclose(reference(**given_)[0], want, atol=1e-5)


def test_what_lies_past_the_visible_keys_is_never_read(interpreter: None, poisoned: None) -> None:
    from mercury_kernels.attention.kernel import attend

    given_ = SMALL.inputs(Source())
    want = attend(**given_)
    cache = given_["cache"]
    unread = torch.arange(cache.capacity) >= 73
    for held in _held(cache):
        for page, hidden in zip(cache.table[0], unread.view(-1, PAGE), strict=True):
            held[page, hidden] = torch.nan
        held[cache.table[1].long()] = torch.nan
    assert torch.equal(attend(**given_), want)


def test_a_row_that_sees_nothing_is_exactly_zero(interpreter: None, poisoned: None) -> None:
    from mercury_kernels.attention.kernel import attend

    assert (attend(**SMALL.inputs(Source()))[1] == 0).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("q", lambda g: {"q": g["q"][:, :, :3].contiguous()}),
        ("q", lambda g: {"q": g["q"].transpose(1, 2)}),
        ("visible", lambda g: {"visible": g["visible"].long()}),
        ("visible", lambda g: {"visible": g["visible"][:1]}),
        ("cache.keys", lambda g: {"cache": replace(g["cache"], keys=g["cache"].keys[:, :32])}),
        ("cache.values", lambda g: {"cache": replace(g["cache"], values=g["cache"].values[:1])}),
        ("cache.table", lambda g: {"cache": replace(g["cache"], table=g["cache"].table[:, :0])}),
        ("cache.key_scale", lambda g: {"cache": replace(g["cache"], key_scale=torch.ones(9))}),
        ("cache.value_scale", lambda g: {"cache": half_scaled(g["cache"])}),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None, name: str, change: Any
) -> None:
    from mercury_kernels.attention.kernel import attend

    given_ = SMALL.inputs(Source())
    with pytest.raises(TensorMismatch, match=f"^{name} "):
        attend(**{**given_, **change(given_)})


@given(st.integers(1, 5000), st.integers(1, 512))
def test_keys_are_shared_among_no_more_programs_than_there_are_pages(
    programs: int, pages: int
) -> None:
    splits = context_splits(programs, pages)
    assert splits in (1, 2, 4, 8, 16)
    assert splits == 1 or splits < 2 * pages


def half_scaled(cache: PagedKVCache) -> PagedKVCache:
    """In fp8, with scales for the keys alone."""
    quantized = [held.to(torch.float8_e4m3fn) for held in _held(cache)]
    return PagedKVCache(*quantized, cache.table, torch.ones(cache.keys.shape[:3]))


def _held(cache: PagedKVCache) -> tuple[torch.Tensor, torch.Tensor]:
    return cache.keys, cache.values
