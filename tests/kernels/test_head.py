import math

import pytest
import torch

from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.head import cases
from mercury_kernels.head.reference import predict as reference
from mercury_kernels.weights import Weight


def test_equal_logits_rank_by_the_lowest_token_across_tiles(interpreter: None) -> None:
    from mercury_kernels.head.kernel import predict

    matrix = torch.zeros(300, 16)
    matrix[[5, 140, 299, 130]] = 1.0
    matrix[[7, 200]] = 0.5
    x = torch.ones(1, 16)
    got = predict(x, Weight(matrix), 8)
    assert got.ids.tolist() == [[5, 130, 140, 299, 7, 200, 0, 1]]
    assert got.ids.tolist() == reference(x, Weight(matrix), 8).ids.tolist()


def test_negative_logits_keep_their_order(interpreter: None) -> None:
    from mercury_kernels.head.kernel import predict

    matrix = -torch.arange(1.0, 201.0)[:, None].flip(0)
    got = predict(torch.ones(1, 1), Weight(matrix), 4)
    assert got.ids.tolist() == [[199, 198, 197, 196]]
    assert got.logits.tolist() == [[-1.0, -2.0, -3.0, -4.0]]


def test_a_row_that_knows_nothing_has_the_entropy_of_the_vocabulary(interpreter: None) -> None:
    from mercury_kernels.head.kernel import predict

    got = predict(torch.zeros(2, 16), Weight(torch.ones(333, 16)), 1)
    assert got.entropy.tolist() == pytest.approx([math.log(333)] * 2, rel=1e-6)
    assert got.lse.tolist() == pytest.approx([math.log(333)] * 2, rel=1e-6)


def test_a_row_that_is_sure_has_none_however_large_its_logit(interpreter: None) -> None:
    from mercury_kernels.head.kernel import predict

    matrix = torch.zeros(200, 1)
    matrix[150] = 1e4
    got = predict(torch.ones(1, 1), Weight(matrix), 1)
    assert (got.ids.item(), got.lse.item(), got.entropy.item()) == (150, 1e4, 0.0)


@pytest.mark.parametrize("top", [0, 64, 65])
def test_more_candidates_than_there_are_tokens_is_an_error(interpreter: None, top: int) -> None:
    from mercury_kernels.head.kernel import predict

    given = cases.HeadCase(2, 63, 16, 1).inputs(Source())
    with pytest.raises(TensorMismatch, match="weight has 63 rows"):
        predict(given["x"], given["weight"], top)
