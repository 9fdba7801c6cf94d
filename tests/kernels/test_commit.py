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
from mercury_model import noise
from mercury_model.decoding import unmasking

MASK = cases.MASK

BLOCKS = st.lists(
    st.tuples(
        st.booleans(),
        *(st.integers(0, most) for most in (64, 192, 64)),
        st.sampled_from([*range(65), np.inf]),
    ),
    min_size=1,
    max_size=40,
)


def state(
    block: list[tuple[bool, int, int, int, float]],
) -> tuple[torch.Tensor, torch.Tensor, Choices, unmasking.BlockView]:
    """A block on the device, its confidences when committed, and the host's view of it."""
    opened, *figures = (np.array(column) for column in zip(*block, strict=True))
    sure, entropy, committed, divergence = (
        torch.tensor(f / 64, dtype=torch.float32)[None] for f in figures
    )
    ids = torch.where(torch.tensor(opened), MASK, 10).int()[None]
    tokens = torch.arange(20, 20 + len(block), dtype=torch.int32)[None]
    seen = (each[0].numpy().copy() for each in (sure, entropy, divergence, committed))
    view = unmasking.BlockView(opened.astype(np.bool_), *seen)
    return ids, committed, Choices(tokens, sure, entropy, divergence), view


def count() -> torch.Tensor:
    return torch.full((1,), -1, dtype=torch.int32)


def bound(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float32)


@given(BLOCKS, st.integers(0, 70))
def test_a_threshold_commits_the_positions_that_the_host_commits(
    block: Any, sixtyfourths: int
) -> None:
    ids, committed, choices, view = state(block)
    policy = Policy("threshold", bound(sixtyfourths / 64), bound(0))
    commit(ids, committed, choices, policy, MASK, count())
    chosen = (ids[0] >= 20).numpy()
    assert (chosen == unmasking.Threshold(sixtyfourths / 64)(view)).all()


@given(BLOCKS, st.integers(0, 70), st.integers(0, 70))
def test_klass_commits_the_positions_that_the_host_commits(
    block: Any, sixtyfourths: int, nats: int
) -> None:
    ids, committed, choices, view = state(block)
    policy = Policy("klass", bound(sixtyfourths / 64), bound(0), bound(nats / 64))
    commit(ids, committed, choices, policy, MASK, count())
    chosen = unmasking.Klass(sixtyfourths / 64, nats / 64)(view)
    assert ((ids[0] >= 20).numpy() == chosen).all()


@given(BLOCKS, st.integers(0, 300))
def test_an_entropy_bound_commits_the_positions_that_the_host_commits(
    block: Any, sixtyfourths: int
) -> None:
    ids, committed, choices, view = state(block)
    policy = Policy("entropy", bound(sixtyfourths / 64), bound(0))
    commit(ids, committed, choices, policy, MASK, count())
    assert ((ids[0] >= 20).numpy() == unmasking.EntropyBound(sixtyfourths / 64)(view)).all()


@given(BLOCKS, st.integers(1, 12), st.sampled_from([noise.Linear(), noise.Cosine()]))
def test_a_schedule_commits_the_positions_that_the_host_commits(
    block: Any, steps: int, schedule: noise.Schedule
) -> None:
    ids, committed, choices, view = state(block)
    policy_on_host = unmasking.Scheduled(steps, schedule)
    size = len(block)
    counts = []
    for remaining in range(size + 1):
        opened = np.arange(size) < remaining
        level = np.zeros(size, np.float32)
        counts.append(
            int(policy_on_host(unmasking.BlockView(opened, level, level, level, level)).sum())
        )
    policy = Policy("count", torch.tensor(counts, dtype=torch.int32), bound(0))
    commit(ids, committed, choices, policy, MASK, count())
    assert ((ids[0] >= 20).numpy() == policy_on_host(view)).all()


@given(BLOCKS, st.integers(0, 64), st.integers(0, 64))
def test_weak_positions_are_masked_again_as_by_the_host(
    block: Any, threshold: int, floor: int
) -> None:
    ids, committed, choices, view = state(block)
    left = count()
    policy = Policy("threshold", bound(threshold / 64), bound(floor / 64))
    commit(ids, committed, choices, policy, MASK, left)
    chosen = unmasking.Threshold(threshold / 64)(view)
    reopened = unmasking.Remask(floor / 64)(view)
    assert (ids[0].numpy() == np.where(chosen, choices.tokens[0], MASK))[view.open].all()
    assert (ids[0].numpy() == np.where(reopened, MASK, 10))[~view.open].all()
    assert (committed[0].numpy() == np.where(chosen, view.confidence, view.committed)).all()
    assert left.item() == view.open.sum() - chosen.sum() + reopened.sum()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids", lambda g: {"ids": g["ids"].long()}),
        ("ids", lambda g: {"ids": torch.zeros(1, 4097, dtype=torch.int32)}),
        ("committed", lambda g: {"committed": g["committed"][:1]}),
        (
            "choices.entropy",
            lambda g: {"choices": replace(g["choices"], entropy=g["choices"].entropy[:1])},
        ),
        ("policy.bound", lambda g: {"policy": replace(g["policy"], kind="count")}),
        ("policy.bound", lambda g: {"policy": replace(g["policy"], bound=torch.ones(7))}),
        ("policy.floor", lambda g: {"policy": replace(g["policy"], floor=torch.ones(2))}),
        ("remaining", lambda g: {"remaining": g["remaining"].long()}),
        (
            "choices.kl",
            lambda g: {"choices": replace(g["choices"], kl=g["choices"].kl[:1])},
        ),
        ("choices.kl", lambda g: {"choices": replace(g["choices"], kl=None)}),
        ("policy.max_kl", lambda g: {"policy": replace(g["policy"], max_kl=torch.ones(2))}),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_that_names_it(
    interpreter: None, name: str, change: Any
) -> None:
    from mercury_kernels.commit.kernel import commit as kernel

    given_ = cases.CommitCase((0.5, 0.5, 0.5), 12, "klass", 0.5).inputs(Source())
    with pytest.raises(TensorMismatch, match=f"^{name} "):
        kernel(**{**given_, **change(given_)})
