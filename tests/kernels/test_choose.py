from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.choose import cases
from mercury_kernels.choose.reference import SamplingTensors, choose, gumbel
from mercury_kernels.head.reference import Predicted
from mercury_model.decoding.sampler import Sampler
from mercury_model.runtime.protocol import Predictions


def sampling(temperature: float, seed: int = 5, start: int = 0, rank: int = 0) -> SamplingTensors:
    return SamplingTensors(
        torch.tensor([seed]),
        torch.tensor([start], dtype=torch.int32),
        torch.tensor([temperature]),
        torch.tensor([rank], dtype=torch.int32),
    )


@pytest.mark.parametrize("rank", [0, 1, 5, 99])
def test_without_noise_it_chooses_what_the_host_chooses(rank: int) -> None:
    given = cases.ChooseCase((0.0,), 25, 16).inputs(Source())
    predicted = given["predicted"]
    got = choose(**{**given, "sampling": sampling(0.0, rank=rank)})
    host = Sampler(cases.FORBIDDEN, given["eos_id"], 64, rank)
    probs = (predicted.logits - predicted.lse[:, None]).exp().numpy()
    ids = predicted.ids.numpy().astype(np.int64)
    want = host.choose(Predictions(ids, probs, predicted.entropy.numpy()), 0)
    assert got.tokens[0].tolist() == want.ids.tolist()
    assert got.confidence[0].numpy() == pytest.approx(want.confidence)
    assert not set(got.tokens[0].tolist()) & set(cases.FORBIDDEN)


def test_a_row_with_nothing_but_forbidden_candidates_ends_the_middle(interpreter: None) -> None:
    from mercury_kernels.choose.kernel import choose as kernel

    given = cases.ChooseCase((0.0,), 2, 3).inputs(Source())
    given["predicted"].ids[0] = torch.tensor(cases.FORBIDDEN)
    for function in (kernel, choose):
        got = function(**given)
        assert (got.tokens[0, 0].item(), got.confidence[0, 0].item()) == (given["eos_id"], 0.0)


def test_the_seed_decides_and_neither_batch_nor_step_does() -> None:
    given = cases.ChooseCase((1.0, 1.0), 9, 8).inputs(Source())
    together = choose(**given).tokens
    predicted = given["predicted"]
    alone = choose(
        Predicted(*(getattr(predicted, n)[9:] for n in ("ids", "logits", "lse", "entropy"))),
        given["ids"][1:],
        SamplingTensors(
            *(getattr(given["sampling"], n)[1:] for n in ("seeds", "start", "temperature", "rank"))
        ),
        given["forbidden"],
        given["eos_id"],
        0,
    )
    assert alone.tokens[0].tolist() == together[1].tolist()
    other = replace(given["sampling"], seeds=given["sampling"].seeds + 1)
    assert choose(**{**given, "sampling": other}).tokens.tolist() != together.tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_occur_as_often_as_the_sharpened_softmax_says(temperature: float) -> None:
    rows, logits = 4000, torch.tensor([2.0, 1.0, 0.0, -1.0])
    predicted = Predicted(
        torch.arange(4, dtype=torch.int32).repeat(rows, 1),
        logits.repeat(rows, 1),
        logits.logsumexp(0).repeat(rows),
        torch.zeros(rows),
    )
    ids = torch.zeros(1, rows, dtype=torch.int32)
    none = torch.empty(0, dtype=torch.int32)
    got = choose(predicted, ids, sampling(temperature), none, 9, 0)
    share = got.tokens[0].long().bincount(minlength=4) / rows
    # Four standard deviations of a share of 4,000 draws.
    assert share.tolist() == pytest.approx((logits / temperature).softmax(0).tolist(), abs=0.032)


def test_noise_has_the_mean_and_spread_of_a_gumbel_distribution() -> None:
    drawn = gumbel(torch.tensor(123456789012345), torch.arange(20000))
    assert drawn.mean().item() == pytest.approx(0.5772, abs=0.04)
    assert drawn.std().item() == pytest.approx(1.2825, abs=0.05)


def test_shifted_rows_stand_for_the_position_after_theirs() -> None:
    given = cases.ChooseCase((0.0,), 6, 4).inputs(Source())
    plain = choose(**given)
    shifted = choose(**{**given, "shift": 1})
    assert shifted.tokens[0, 1:].tolist() == plain.tokens[0, :-1].tolist()
    assert shifted.tokens[0, 0] == given["ids"][0, 0]
    assert shifted.confidence[0, 0] == 1.0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("predicted.ids", lambda g: {"ids": g["ids"][:, :4].contiguous()}),
        (
            "predicted.lse",
            lambda g: {"predicted": replace(g["predicted"], lse=g["predicted"].lse[1:])},
        ),
        (
            "sampling.seeds",
            lambda g: {"sampling": replace(g["sampling"], seeds=g["sampling"].seeds.int())},
        ),
        ("forbidden", lambda g: {"forbidden": torch.zeros(2)}),
        ("ids", lambda g: {"shift": 6}),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None, name: str, change: Any
) -> None:
    from mercury_kernels.choose.kernel import choose as kernel

    given = cases.ChooseCase((0.0,), 5, 3).inputs(Source())
    with pytest.raises(TensorMismatch, match=f"^{name} "):
        kernel(**{**given, **change(given)})
