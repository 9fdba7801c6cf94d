from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.choose.reference import Choices
from mercury_kernels.commit import cases
from mercury_kernels.commit.reference import Policy, commit
from mercury_model import noise, unmask

MASK = cases.MASK

BLOCKS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 64), st.integers(0, 192), st.integers(0, 64)),
    min_size=1,
    max_size=40,
)


def state(block: list[tuple[bool, int, int, int]]) -> tuple[torch.Tensor, Choices, unmask.View]:
    """One block on the device and as the host's policies see it."""
    opened, *figures = (np.array(column) for column in zip(*block, strict=True))
    confidence, entropy, kept = (torch.tensor(f / 64, dtype=torch.float32)[None] for f in figures)
    ids = torch.where(torch.tensor(opened), MASK, 10).int()[None]
    tokens = torch.arange(20, 20 + len(block), dtype=torch.int32)[None]
    sure = confidence[0].numpy()
    never = np.full_like(sure, np.inf)
    view = unmask.View(opened.astype(np.bool_), sure, entropy[0].numpy(), never, sure)
    return ids, Choices(tokens, confidence, entropy, kept), view


def count() -> torch.Tensor:
    return torch.full((1,), -1, dtype=torch.int32)


def bound(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float32)


@given(BLOCKS, st.integers(0, 70))
def test_a_threshold_commits_what_the_host_commits(block: Any, sixtyfourths: int) -> None:
    ids, choices, view = state(block)
    commit(ids, choices, Policy("threshold", bound(sixtyfourths / 64)), MASK, None, count())
    chosen = (ids[0] >= 20).numpy()
    assert (chosen == unmask.Threshold(sixtyfourths / 64)(view)).all()


@given(BLOCKS, st.integers(0, 300))
def test_an_entropy_bound_commits_what_the_host_commits(block: Any, sixtyfourths: int) -> None:
    ids, choices, view = state(block)
    commit(ids, choices, Policy("entropy", bound(sixtyfourths / 64)), MASK, None, count())
    assert ((ids[0] >= 20).numpy() == unmask.EntropyBound(sixtyfourths / 64)(view)).all()


@given(BLOCKS, st.integers(1, 12), st.sampled_from([noise.Linear(), noise.Cosine()]))
def test_a_pace_read_off_a_schedule_commits_what_the_host_commits(
    block: Any, steps: int, schedule: noise.Schedule
) -> None:
    ids, choices, view = state(block)
    pace = unmask.Paced(steps, schedule)
    size = len(block)
    counts = []
    for remaining in range(size + 1):
        opened = np.arange(size) < remaining
        level = np.zeros(size, np.float32)
        counts.append(int(pace(unmask.View(opened, level, level, level, level)).sum()))
    commit(
        ids, choices, Policy("count", torch.tensor(counts, dtype=torch.int32)), MASK, None, count()
    )
    assert ((ids[0] >= 20).numpy() == pace(view)).all()


@given(BLOCKS, st.integers(0, 64), st.integers(0, 64))
def test_opening_again_what_is_doubted_still_makes_progress(
    block: Any, threshold: int, floor: int
) -> None:
    ids, choices, view = state(block)
    before = int(view.open.sum())
    policy = Policy("threshold", bound(threshold / 64))
    left = count()
    commit(ids, choices, policy, MASK, bound(floor / 64), left)
    assert left.item() == int((ids == MASK).sum())
    assert left.item() < before or before == 0
    reopened = ~torch.tensor(view.open) & (ids[0] == MASK)
    assert (choices.kept[0][reopened] < floor / 64).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids", lambda g: {"ids": g["ids"].long()}),
        ("ids", lambda g: {"ids": torch.zeros(1, 4097, dtype=torch.int32)}),
        (
            "choices.kept",
            lambda g: {"choices": replace(g["choices"], kept=g["choices"].kept[:1])},
        ),
        ("policy.bound", lambda g: {"policy": Policy("count", torch.ones(3))}),
        ("policy.bound", lambda g: {"policy": Policy("entropy", torch.ones(7))}),
        ("floor", lambda g: {"floor": torch.ones(2)}),
        ("left", lambda g: {"left": g["left"].long()}),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None, name: str, change: Any
) -> None:
    from mercury_kernels.commit.kernel import commit as kernel

    given_ = cases.CommitCase((0.5, 0.5, 0.5), 12, "threshold", 0.5).inputs(Source())
    with pytest.raises(TensorMismatch, match=f"^{name} "):
        kernel(**{**given_, **change(given_)})
