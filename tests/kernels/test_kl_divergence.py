from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.head.reference import Predicted
from mercury_kernels.kl_divergence import cases
from mercury_kernels.kl_divergence.reference import (
    NO_PREDICTION,
    PreviousPredictions,
    kl_divergence,
)
from mercury_model.decoding.sampler import kl_divergence as on_the_host
from mercury_model.decoding.state import NO_PREDICTIONS as NO_STEP
from mercury_model.runtime.protocol import Predictions

CPU = torch.device("cpu")


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Up to four steps over two blocks: candidates [B · T, K] and their chances, likeliest first.

    Something is left to other tokens, at least a 500th.
    """
    rows, top = 2 * draw(st.integers(1, 5)), draw(st.integers(1, 6))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        row = st.permutations(range(8))
        ids = [draw(row)[:top] for _ in range(rows)]
        weight = st.lists(st.integers(1, 60), min_size=top, max_size=top)
        weights = torch.tensor([sorted(draw(weight), reverse=True) for _ in range(rows)])
        rest = torch.tensor([draw(st.integers(1, 60)) for _ in range(rows)])
        chances = weights / (weights.sum(1) + rest)[:, None]
        found.append((torch.tensor(ids, dtype=torch.int32), chances))
    return found


def predicted(ids: torch.Tensor, chances: torch.Tensor) -> Predicted:
    """As a step leaves it."""
    none = torch.zeros(len(ids))
    return Predicted(ids, chances.log(), none, none)


@given(steps(), st.integers(0, 1))
def test_predictions_move_as_far_as_the_host_says(
    given_: list[tuple[torch.Tensor, torch.Tensor]], shift: int
) -> None:
    rows, top = given_[0][0].shape
    length = rows // 2
    before = PreviousPredictions.empty((2, length, top), CPU)
    were = [NO_STEP, NO_STEP]
    for ids, chances in given_:
        found = kl_divergence(predicted(ids, chances), before, shift)
        for block in range(2):
            those = slice(block * length, (block + 1) * length - shift)
            now = Predictions(
                ids[those].numpy().astype(np.int64),
                chances[those].numpy(),
                np.zeros(length - shift, np.float32),
            )
            expected = on_the_host(now, were[block])
            assert found[block, shift:].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert (found[block, :shift] == torch.inf).all()
            were[block] = now


def test_equal_predictions_have_no_divergence(interpreter: None) -> None:
    from mercury_kernels.kl_divergence.kernel import kl_divergence as kernel

    given_ = cases.KlDivergenceCase((False, False), 9, 16).inputs(Source())
    for function in (kl_divergence, kernel):
        before = given_["previous"].clone()
        first, again = (function(given_["predicted"], before, 0) for _ in range(2))
        assert (first == torch.inf).all()
        assert (again < 1e-6).all()


def test_one_block_forgets_and_the_others_do_not(interpreter: None) -> None:
    from mercury_kernels.kl_divergence.kernel import kl_divergence as kernel

    given_ = cases.KlDivergenceCase((True, True, True), 5, 7).inputs(Source())
    for function in (kl_divergence, kernel):
        before = given_["previous"].clone()
        before.ids[1] = NO_PREDICTION
        found = function(given_["predicted"], before, 0)
        assert found.isinf().all(1).tolist() == [False, True, False]
        assert found[::2].isfinite().all()
        assert torch.equal(before.ids.view(15, 7), given_["predicted"].ids)


def test_what_is_copied_is_put_back_and_forgotten_where_it_was() -> None:
    before = cases.KlDivergenceCase((True,), 5, 7).inputs(Source())["previous"]
    copy, places = before.clone(), [before.ids.data_ptr(), before.probs.data_ptr()]
    before.reset()
    assert (before.ids == NO_PREDICTION).all()
    before.copy_from(copy)
    assert torch.equal(before.ids, copy.ids)
    assert torch.equal(before.probs, copy.probs)
    assert [before.ids.data_ptr(), before.probs.data_ptr()] == places


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "previous.ids",
            lambda g: {"previous": replace(g["previous"], ids=g["previous"].ids.long())},
        ),
        (
            "previous.probs",
            lambda g: {"previous": replace(g["previous"], probs=g["previous"].probs[:1])},
        ),
        (
            "predicted.ids",
            lambda g: {"predicted": replace(g["predicted"], ids=g["predicted"].ids[:, :4])},
        ),
        (
            "predicted.lse",
            lambda g: {"predicted": replace(g["predicted"], lse=g["predicted"].lse[1:])},
        ),
        ("previous.ids", lambda g: {"shift": 6}),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None, name: str, change: Any
) -> None:
    from mercury_kernels.kl_divergence.kernel import kl_divergence as kernel

    given_ = cases.KlDivergenceCase((True, False), 5, 7).inputs(Source())
    with pytest.raises(TensorMismatch, match=f"^{name} "):
        kernel(**{**given_, **change(given_)})
