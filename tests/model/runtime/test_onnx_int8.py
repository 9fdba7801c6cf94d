"""Turning and rounding weights: what must stay as it was, and how much may be lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.onnx import int8
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.weights import registry

CARD = registry.card("tiny")
WEIGHTS = registry.merged(registry.find("tiny"), Path("nowhere"))


@pytest.mark.parametrize("size", [1, 2, 7, 12, 64, 100, 192, 576])
def test_a_turn_keeps_lengths_and_spreads_every_coordinate_over_all(size: int) -> None:
    matrix = int8.rotation(size).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-6)
    assert np.abs(matrix).max() <= np.sqrt(2 / size) + 1e-6


def test_a_turned_network_gives_the_logits_it_gave() -> None:
    config = CARD.architecture
    norm, head = int8.rotated_head(config, WEIGHTS["embedding"].copy(), WEIGHTS["norm"])
    stream = int8.rotation(config.hidden_size)
    rotated = {"embedding": WEIGHTS["embedding"] @ stream.T, "norm": norm, "head": head}
    half = int8.rotated_embedding(config, WEIGHTS["embedding"])
    np.testing.assert_array_equal(half, rotated["embedding"].astype(np.float16))
    block = int8.rotation(int8.rotation_block(config))
    for layer in range(config.num_layers):
        start = f"layers.{layer}."
        mine = {n.removeprefix(start): t for n, t in WEIGHTS.items() if n.startswith(start)}
        mine = int8.rotated_layer(config, mine)
        # The graph rotates what `d` reads; torch does not, so here it is rotated back.
        mine["d"] = (mine["d"].reshape(config.hidden_size, -1, len(block)) @ block).reshape(
            mine["d"].shape
        )
        rotated.update({start + name: tensor for name, tensor in mine.items()})
    before = TorchRuntime(load_denoiser(config, WEIGHTS), dtype=torch.float32)
    after = TorchRuntime(
        load_denoiser(replace(config, tie_word_embeddings=False), rotated), dtype=torch.float32
    )
    ids = list(np.random.default_rng(0).integers(5, config.vocab_size, 60))
    expected = before.logits(before.new_kv_cache(), ids)
    torch.testing.assert_close(after.logits(after.new_kv_cache(), ids), expected, rtol=0, atol=1e-3)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40))
def test_rounding_errs_by_half_a_step_at_most(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, columns), np.float32) * rng.choice([0, 1e-3, 1, 50], rows)[
        :, None
    ].astype(np.float32)
    rounded = int8.quantize_columns(matrix)
    assert rounded.values.shape == (columns, rows)
    back = (rounded.values * rounded.scales).T
    assert (np.abs(back - matrix) <= 0.501 * rounded.scales[:, None]).all()


def test_one_large_entry_of_the_hidden_vector_fits_on_its_grid() -> None:
    config = registry.card("mini").architecture
    block = int8.rotation_block(config)
    hidden = np.zeros((config.intermediate_size // block, block))
    hidden[3, 5] = np.sqrt(config.intermediate_size)  # with a root mean square of one
    rotated = hidden @ int8.rotation(block).T
    assert np.abs(rotated).max() <= int8.activation_range(config).hidden + 1e-6
