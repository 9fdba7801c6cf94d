from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from itertools import count, islice
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model.network.attention import MaskedAttention, causal_mask
from mercury_model.network.denoiser import Denoiser
from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.filters import Seen
from mercury_model.training.tiny.batch import Batch, Example, collate, examples
from mercury_model.training.tiny.corpus import distribution
from mercury_model.training.tiny.fit import LearningRates, full_trainer, init_weights, losses
from mercury_model.training.tiny.likelihood import causal_log_probs, denoised_log_probs
from mercury_model.training.tiny.trigram import Trigram

END, SUFFIX, PREFIX, MIDDLE, MASK = range(5)
FORMAT = FimFormat(
    suffix_id=SUFFIX,
    prefix_id=PREFIX,
    middle_id=MIDDLE,
    eos_id=END,
    mask_id=MASK,
    block_length=5,
    prefix_tokens=12,
    suffix_tokens=6,
    middle_tokens=8,
    shift=True,
    languages=("python",),
    characters_per_token=5,
)
CONFIG = ModelConfig(20, 16, 2, 2, 1, 8, 24, 10_000.0)
TEXT = "\n".join(f"def function_{n}(a, b):\n    return a + b * {n}\n" for n in range(40))

words = st.integers(5, 19)
streams = st.builds(
    lambda suffix, prefix, middle: Example(
        (SUFFIX, *suffix, PREFIX, *prefix, MIDDLE, *middle, END),
        len(suffix) + 2,
        len(suffix) + len(prefix) + 3,
    ),
    st.lists(words, max_size=6),
    st.lists(words, max_size=12),
    st.lists(words, max_size=8),
)


@pytest.fixture(scope="module")
def network() -> Denoiser:
    made = Denoiser(CONFIG)
    init_weights(made, torch.Generator().manual_seed(0))
    return made.eval()


def encode(text: str) -> list[int]:
    return [5 + ord(letter) % 15 for letter in text]


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=4))
def test_a_trigram_is_a_distribution_after_any_history(texts: list[list[int]]) -> None:
    texts = [[0, 1, 0, 1, 2], *texts]
    trigram = Trigram(texts, vocabulary=4, start=3)
    for u in range(4):
        for v in range(4):
            total = sum(np.exp(trigram.log_probs([u, v, w])[2]) for w in range(4))
            assert total == pytest.approx(1.0)


def test_a_trigram_expects_what_it_has_seen() -> None:
    trigram = Trigram([[5, 6, 7] * 20 + [6, 5, 8]], vocabulary=9, start=0)
    chances = [np.exp(trigram.log_probs([5, 6, w])[2]) for w in range(9)]
    assert max(range(9), key=chances.__getitem__) == 7
    assert min(chances) > 0


def test_code_under_a_copyleft_licence_is_refused() -> None:
    with pytest.raises(ValueError, match="licence of hypothesis"):
        distribution("hypothesis", Seen())


def test_code_under_a_permissive_licence_is_taken_once() -> None:
    seen = Seen()
    first, second = (distribution("attrs", seen) for _ in range(2))
    assert first.licence == "MIT"
    assert first.version == metadata.version("attrs")
    assert len(first.texts) > 5
    assert second.texts == ()


def test_gaps_are_cut_out_of_texts_within_the_limits_of_the_format() -> None:
    wide = replace(FORMAT, prefix_tokens=40, suffix_tokens=20, middle_tokens=30)
    for example in islice(examples([TEXT], encode, wide, Random(0)), 50):
        ids = example.ids
        at = ids.index(PREFIX), ids.index(MIDDLE)
        assert (ids[0], ids[-1], example.middle) == (SUFFIX, END, at[1] + 1)
        assert at[0] - 1 <= 20
        assert at[1] - at[0] - 1 <= 40
        assert 1 <= len(ids) - 1 - example.middle <= 30


@given(st.lists(streams, min_size=1, max_size=3), st.integers(0, 2**32))
def test_clean_rows_predict_the_next_token_from_those_before(
    chosen: list[Example], seed: int
) -> None:
    batch = collate(chosen, FORMAT, np.random.default_rng(seed))
    for row, example in enumerate(chosen):
        size = len(example.ids)
        assert batch.ids[row, :size].tolist() == list(example.ids)
        assert batch.targets[row, : size - 1].tolist() == list(example.ids[1:])
        seen = batch.attend[row, 0, :size]
        assert (seen[:, :size] == torch.ones(size, size).tril().bool()).all()
        assert not seen[:, size:].any()
        wanted = [int(t) for t, w in zip(batch.targets[row], batch.weights[row], strict=True) if w]
        assert PREFIX not in wanted
        assert MIDDLE not in wanted


@given(st.lists(streams, min_size=1, max_size=3), st.integers(0, 2**32))
def test_masked_rows_see_the_context_before_their_block_and_the_block(
    chosen: list[Example], seed: int
) -> None:
    batch = collate(chosen, FORMAT, np.random.default_rng(seed))
    clean = max(len(example.ids) for example in chosen)
    for row, example in enumerate(chosen):
        padded = [*example.ids, *[END] * FORMAT.block_length]
        for at in range(clean, batch.ids.shape[1], FORMAT.block_length):
            last = int(batch.attend[row, 0, :, at].nonzero().max())
            size = last + 1 - at
            begin = int(batch.positions[row, at])
            assert begin < len(example.ids)
            assert batch.ids[row, at] == example.ids[begin]
            for j in range(size):
                seen = batch.attend[row, 0, at + j].nonzero().flatten().tolist()
                token = batch.ids[row, at + j] != MASK
                causally = token and not batch.attend[row, 0, at, at + 1]
                assert seen == [*range(begin), *range(at, at + (j + 1 if causally else size))]
                assert batch.positions[row, at + j] == begin + j
                assert batch.ids[row, at + j] in (MASK, padded[begin + j])
                masked_next = j + 1 < size and batch.ids[row, at + j + 1] == MASK
                assert bool(batch.noisy[row, at + j]) == masked_next
                known = int(batch.targets[row, at + j]) == MIDDLE
                assert bool(batch.weights[row, at + j] > 0) == (masked_next and not known)
                if masked_next:
                    assert batch.targets[row, at + j] == padded[begin + j + 1]
                    real = begin + j + 1 < len(example.ids)
                    assert batch.teacher[row, at + j] == (begin + j if real else -1)


def batches(seed: int) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    drawn = examples([TEXT], encode, FORMAT, Random(seed))
    while True:
        yield collate([next(drawn) for _ in range(4)], FORMAT, rng)


def trained(clock: Callable[[], float], seconds: float) -> Denoiser:
    made = Denoiser(CONFIG)
    init_weights(made, torch.Generator().manual_seed(0))
    drawn = batches(1)
    for _ in full_trainer(made, lambda _: next(drawn), seconds, clock, LearningRates()).steps():
        pass
    return made


def ticking() -> Callable[[], float]:
    ticks = count()
    return lambda: float(next(ticks))


def test_training_lowers_both_losses_and_ends_with_its_budget(network: Denoiser) -> None:
    clock = ticking()
    after = trained(clock, 60.0)
    assert clock() == 61.0
    batch = next(batches(2))
    with torch.no_grad():
        assert (torch.stack(losses(after, batch)) < torch.stack(losses(network, batch)) - 0.2).all()


def test_the_same_seed_trains_the_same_network() -> None:
    one, other = (trained(ticking(), 6.0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@settings(max_examples=20)
@given(st.lists(words, min_size=1, max_size=40), st.integers(0, 39), words)
@pytest.mark.parametrize("measure", [causal_log_probs, denoised_log_probs])
def test_what_comes_later_does_not_change_how_likely_a_token_is(
    network: Denoiser, measure: Callable[..., np.ndarray], ids: list[int], at: int, other: int
) -> None:
    at %= len(ids)
    changed = [*ids[:at], other, *ids[at + 1 :]]
    one, two = measure(network, ids, FORMAT), measure(network, changed, FORMAT)
    assert len(one) == len(ids)
    assert (one < 0).all()
    assert one[:at] == pytest.approx(two[:at], abs=1e-4)


def test_a_causal_likelihood_is_the_networks_own(network: Denoiser) -> None:
    ids = [7, 9, 11]
    rows = torch.tensor([[SUFFIX, PREFIX, *ids]])
    with torch.no_grad():
        logits = network.logits(
            network(rows, torch.arange(5)[None], MaskedAttention(causal_mask(5)))
        )[0]
    expected = logits.log_softmax(-1)[torch.arange(1, 4), torch.tensor(ids)]
    assert causal_log_probs(network, ids, FORMAT) == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_denoised_likelihood_is_that_of_the_first_mask_of_a_block(network: Denoiser) -> None:
    ids = [7, 9, 11]
    block = [9, MASK, MASK, MASK, MASK]
    rows = torch.tensor([[SUFFIX, PREFIX, 7, *block]])
    seen = causal_mask(8)
    seen[..., 3:, 3:] = True
    with torch.no_grad():
        logits = network.logits(network(rows, torch.arange(8)[None], MaskedAttention(seen)))[0]
    expected = float(logits[3].log_softmax(-1)[11])
    assert denoised_log_probs(network, ids, FORMAT)[2] == pytest.approx(expected, abs=1e-5)


FULL = (
    (3.352795, 3.009964),
    (3.328223, 2.878047),
    (3.103888, 2.857732),
    (2.890709, 2.700524),
    (2.777943, 2.792333),
    (2.622957, 2.669286),
    (2.603260, 2.580432),
    (2.656052, 2.763691),
    (2.457902, 2.480181),
    (2.393670, 2.575386),
    (2.331286, 2.521685),
    (2.200506, 2.531527),
    (2.316469, 2.395291),
    (2.105934, 2.422925),
    (2.119173, 2.618701),
    (2.024300, 2.345879),
    (2.033764, 2.531796),
    (1.938035, 2.514935),
    (2.022469, 2.425226),
    (1.948788, 2.514586),
)
"""Losses of clean rows and of masks, as they were when inference had a network of its own."""


def test_a_training_from_random_weights_has_the_losses_that_it_had() -> None:
    """In bf16, so a sum in another order shows; the bound is less than a step changes."""
    made, drawn = Denoiser(CONFIG), batches(1)
    init_weights(made, torch.Generator().manual_seed(0))
    trainer = full_trainer(made, lambda _: next(drawn), 21.0, ticking(), LearningRates())
    for report, expected in zip(trainer.steps(), FULL, strict=True):
        assert (report["clean"], report["noisy"]) == pytest.approx(expected, rel=1e-2)
