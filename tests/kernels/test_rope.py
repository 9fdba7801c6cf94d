from dataclasses import replace
from typing import Any

import pytest
import torch

from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.paged import PAGE
from mercury_kernels.rope import cases
from mercury_kernels.rope.reference import QkvEpilogue, rotate_and_cache

SMALL = cases.RopeCase((60, 3), 5, (3, 1), 16)


def test_rotated_queries_and_keys_see_only_how_far_apart_they_are() -> None:
    width, far = 8, 40
    turn = cases.rotation(100, width, Source())
    x = torch.randn(1, 1, 3 * width, generator=torch.Generator().manual_seed(2))
    scores = []
    for shift in (0, far):
        cache = cases.scattered(1, 2, (1, width), Source(), torch.Generator())
        q = torch.zeros(1, 1, 1, width)
        for at in (shift, shift + 5):
            start = torch.tensor([at], dtype=torch.int32)
            rotate_and_cache(x, QkvEpilogue(), turn, start, start[:, None] + 1, q, cache)
        key = cache.keys[cache.table[0, shift // PAGE], shift % PAGE, 0]
        scores.append((q[0, 0, 0] @ key).item())
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_block_leaves_the_rest_of_the_cache_as_it_was(interpreter: None) -> None:
    from mercury_kernels.rope.kernel import rotate_and_cache as kernel

    given = cases.RopeCase((62,), 4, (1, 1), 16).inputs(Source())
    cache = given["cache"]
    before = cache.keys.clone()
    kernel(**given)
    changed = (cache.keys != before).any(-1).any(-1)
    # One page of capacity: positions 62 and 63 are written, 64 and 65 fall off.
    assert changed.nonzero().tolist() == [[0, 62], [0, 63]]


def test_rows_of_padding_leave_what_a_canvas_has_behind_the_block(interpreter: None) -> None:
    from mercury_kernels.rope.kernel import rotate_and_cache as kernel

    given = cases.RopeCase((7,), 5, (1, 1), 16, padding=2).inputs(Source())
    keys, values = given["cache"].keys, given["cache"].values
    before = torch.stack([keys, values])
    kernel(**given)
    changed = (torch.stack([keys, values]) != before).any(-1).any(-1)
    assert changed.nonzero().tolist() == [[kind, 0, at] for kind in (0, 1) for at in (7, 8, 9)]


def test_keys_and_values_in_fp8_are_kept_to_a_sixteenth_whatever_their_size() -> None:
    source = Source(cache_dtype=torch.float8_e4m3fn)
    cache = cases.scattered(1, 1, (3, 16), source, torch.Generator())
    sizes = torch.tensor([1e-4, 1.0, 1e4])[:, None]
    rows = torch.randn(2, 5, 3, 16, generator=torch.Generator().manual_seed(3)) * sizes
    cache.write(0, torch.arange(7, 12), *rows)
    for stored, row in zip(cache.read(0, torch.arange(7, 12), torch.float32), rows, strict=True):
        off = (stored - row).abs().amax(-1) / row.abs().amax(-1)
        assert (off <= 1 / 16).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("parts", lambda g: {"parts": g["parts"][:, :9]}),
        ("start", lambda g: {"start": g["start"].long()}),
        ("visible", lambda g: {"visible": g["visible"][:, 1:]}),
        ("q", lambda g: {"q": g["q"][0]}),
        ("rotation.sin", lambda g: {"rotation": replace(g["rotation"], sin=g["rotation"].sin[1:])}),
        ("epilogue.bias", lambda g: {"epilogue": QkvEpilogue(bias=torch.zeros(3))}),
        ("epilogue.q_norm", lambda g: {"epilogue": QkvEpilogue(q_norm=torch.zeros(16))}),
        ("cache.table", lambda g: {"cache": replace(g["cache"], table=g["cache"].table[:1])}),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None, name: str, change: Any
) -> None:
    from mercury_kernels.rope.kernel import rotate_and_cache as kernel

    given = SMALL.inputs(Source())
    with pytest.raises(TensorMismatch, match=f"^{name} "):
        kernel(**{**given, **change(given)})
