"""Turning and rounding weights: what must stay as it was, and how much may be lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_model import models
from mercury_model.runtime import int8
from mercury_model.runtime.torch import TorchRuntime, denoiser

CARD = models.card("tiny")
WEIGHTS = models.merged(models.find("tiny"), Path("nowhere"))


@pytest.mark.parametrize("size", [1, 2, 7, 12, 64, 100, 192, 576])
def test_a_turn_keeps_lengths_and_spreads_every_coordinate_over_all(size: int) -> None:
    matrix = int8.turn(size).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-6)
    assert np.abs(matrix).max() <= np.sqrt(2 / size) + 1e-6


def test_a_turned_network_gives_the_logits_it_gave() -> None:
    config = CARD.architecture
    turned = int8.turned_ends(config, WEIGHTS)
    block = int8.turn(int8.hidden_block(config))
    for layer in range(config.layers):
        start = f"layers.{layer}."
        mine = {n.removeprefix(start): t for n, t in WEIGHTS.items() if n.startswith(start)}
        mine = int8.turned_layer(config, mine)
        # The graph turns what `d` reads; torch does not, so here it is turned back.
        mine["d"] = (mine["d"].reshape(config.width, -1, len(block)) @ block).reshape(
            mine["d"].shape
        )
        turned.update({start + name: tensor for name, tensor in mine.items()})
    before = TorchRuntime(denoiser(config, WEIGHTS), dtype=torch.float32)
    after = TorchRuntime(denoiser(replace(config, tied_head=False), turned), dtype=torch.float32)
    ids = list(np.random.default_rng(0).integers(5, config.vocab_size, 60))
    expected = before.logits(before.new_kv(), ids)
    torch.testing.assert_close(after.logits(after.new_kv(), ids), expected, rtol=0, atol=1e-3)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40))
def test_rounding_errs_by_half_a_step_at_most(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, columns), np.float32) * rng.choice([0, 1e-3, 1, 50], rows)[
        :, None
    ].astype(np.float32)
    rounded = int8.round_columns(matrix)
    assert rounded.values.shape == (columns, rows)
    back = (rounded.values * rounded.scales).T
    assert (np.abs(back - matrix) <= 0.501 * rounded.scales[:, None]).all()


def test_one_large_entry_of_the_hidden_vector_fits_on_its_grid() -> None:
    config = models.card("mini").architecture
    block = int8.hidden_block(config)
    hidden = np.zeros((config.mlp_width // block, block))
    hidden[3, 5] = np.sqrt(config.mlp_width)  # with a root mean square of one
    turned = hidden @ int8.turn(block).T
    assert np.abs(turned).max() <= int8.reach(config).hidden + 1e-6
